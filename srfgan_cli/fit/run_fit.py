"""From an experiment to its page: every run as a command of its own, then the scores, prices and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from srfgan_cli.fit.experiment import Experiment, titled
from srfgan_cli.fit.intervals import Changes, compare_scores
from srfgan_cli.fit.pictures import Pictures, draw_pictures
from srfgan_cli.fit.record import bring_back, claim
from srfgan_cli.machine.devices import parse_devices
from srfgan_cli.presets.config import Config, SolverConfig
from srfgan_cli.reproduction.graph import Job, Settings
from srfgan_cli.reproduction.jobs import JobFolder, Machine
from srfgan_cli.reproduction.measure import Cost, measure
from srfgan_cli.reproduction.run_jobs import Stopped, run_jobs
from srfgan_cli.screen.console import stderr, styled


@dataclass(frozen=True)
class Step:
    """A run that is done.

    Attributes:
        title, explanation: what it is, for people.
        job: as it went: `patience` may have ended it early.
        seconds: of its training iterations.
    """

    name: str
    title: str
    explanation: str
    job: Job
    folder: JobFolder
    seconds: float

    @property
    def solver(self) -> SolverConfig:
        """Its schedule."""
        assert self.job.solver is not None
        return self.job.solver


@dataclass(frozen=True)
class Fitted:
    """Everything that the page shows.

    Attributes:
        steps: the trainings, in order, by name; `baseline` is the plain detector's.
        target: the name of the step that gives the method's detector.
        scores: `{"box": {"AP": ...}, "mask": {...}}` in percent, of `plain` and `method`.
        changes: of the same metrics, by task: the method's less the plain detector's.
        costs: of the same two detectors.
        device: what it ran on, for people.
        data_root: where the data set is a folder.
        images: of the validation split.
    """

    config: Config
    steps: dict[str, Step]
    target: str
    scores: dict[str, dict[str, dict[str, float | None]]]
    changes: dict[str, Changes]
    costs: dict[str, Cost]
    pictures: Pictures
    device: str
    data_root: Path | None
    images: int
    scale: float

    @property
    def method(self) -> str:
        """How the method upsamples."""
        return self.config.model.neck.upsampler

    @property
    def data(self) -> str:
        """What it was trained on, for people."""
        data = self.config.data
        if data.dataset == "shapes":
            return "shapes"
        return str(data.val.annotations if data.val is not None else self.data_root)

    @property
    def tasks(self) -> list[str]:
        """What both detectors are scored at."""
        return [task for task in ("box", "mask") if all(task in scores for scores in self.scores.values())]

    @property
    def seconds(self) -> float:
        """Of all trainings together."""
        return sum(step.seconds for step in self.steps.values())


class Unfinished(Exception):  # noqa: N818
    """It came to no end; the message says what is there now, and how to go on.

    Attributes:
        interrupted: by a signal; otherwise a run has failed, and what it said has been shown.
    """

    def __init__(self, message: str, *, interrupted: bool) -> None:
        super().__init__(message)
        self.interrupted = interrupted


def run_fit(
    experiment: Experiment,
    settings: Settings,
    machine: Machine,
    output_dir: Path,
    *,
    overwrite: bool = False,
) -> Fitted:
    """Run what is not done yet, score both detectors, measure and draw.

    Args:
        settings: those that the experiment was planned with.
        output_dir: gets a folder for each run, and `images/`.
        overwrite: replace what another fit has left there, which is kept until this one is whole.

    Raises:
        InputError: another fit's folder, or one that cannot be written; or a run that cannot be read.
        Unfinished: a run has failed, and those that do not rest on it are done; or a signal has come, and the running
            one has saved its state.
    """
    _train(experiment, settings, machine, output_dir, overwrite=overwrite)
    stderr.print("Timing and drawing", style="bold")
    return _fitted(experiment, settings, machine, output_dir)


def _train(
    experiment: Experiment, settings: Settings, machine: Machine, output_dir: Path, *, overwrite: bool
) -> None:
    graph, folders = experiment.graph, experiment.folders(output_dir)
    known = {"preset": experiment.method, "scale": settings.scale, "data": settings.data}

    def begin() -> None:
        claim(output_dir, known, graph.jobs, folders, overwrite=overwrite)
        _announce(experiment, folders)

    again = "The same command without --overwrite" if overwrite else "The same command"
    try:
        failed = run_jobs(graph, folders, output_dir, [machine], begin).failed
    except Stopped:
        if bring_back(output_dir, folders):
            message = f"Interrupted before anything was trained; what was in {output_dir} is there again."
        else:
            message = f"Interrupted; everything is kept. {again} continues."
        raise Unfinished(message, interrupted=True) from None
    if failed:
        if bring_back(output_dir, folders):
            message = f"Nothing was trained; what was in {output_dir} is there again."
        else:
            message = f"What was done is kept; {again.lower()} tries again."
        raise Unfinished(message, interrupted=False)


def _announce(experiment: Experiment, folders: dict[str, JobFolder]) -> None:
    graph = experiment.graph
    for number, (key, job) in enumerate(graph.jobs.items(), start=1):
        title, explanation = titled(experiment, job)
        state = " (done)" if folders[key].state(job) == "done" else ""
        stderr.print(
            styled(f"{number}/{len(graph.jobs)} ", (title, "bold"), f"{state}  ", (explanation, "dim"))
        )


def _fitted(experiment: Experiment, settings: Settings, machine: Machine, output_dir: Path) -> Fitted:
    graph, folders = experiment.graph, experiment.folders(output_dir)
    devices = parse_devices(machine.devices)
    names = {"plain": experiment.plain, "method": experiment.method}
    costs = measure(
        graph, folders, machine.data_root, devices.device(), output_dir / "costs.json", data=settings.data
    )
    steps = {
        experiment.places[key]: Step(
            experiment.places[key],
            *titled(experiment, job),
            folders[key].as_ended(job),
            folders[key],
            folders[key].training_seconds,
        )
        for key, job in graph.jobs.items()
        if job.kind != "eval"
    }
    pictures, images = draw_pictures(
        experiment.config,
        {name: step.folder.run for name, step in steps.items()},
        experiment.target,
        output_dir / "images",
        machine.data_root,
        devices.device(),
    )
    scored = {which: folders[graph.results[name, 0]] for which, name in names.items()}
    return Fitted(
        config=experiment.config,
        steps=steps,
        target=experiment.target,
        scores={which: folder.scores() for which, folder in scored.items()},
        changes=compare_scores(
            experiment.config, machine.data_root, plain=scored["plain"], method=scored["method"]
        ),
        costs={which: costs[name] for which, name in names.items()},
        pictures=pictures,
        device=devices.described(machine.threads),
        data_root=machine.data_root,
        images=images,
        scale=settings.scale,
    )
