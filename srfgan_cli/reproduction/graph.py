"""The runs that a table needs, each once however many rows share it. Imports no torch.

A run is known by what decides its result: the parts of its config that it uses, its seed, its data, and the
runs that it starts from. Two presets that ask for the same thing by different names share one run, in one
table or in several.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from srfgan.models.errors import InputError
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import Config, SolverConfig, StageName
from srfgan_cli.presets.graph import needed_sources, option_of, require_distilled, source_presets
from srfgan_cli.presets.tables import Entry
from srfgan_cli.presets.upsampling import without_absent
from srfgan_cli.reproduction.identity import scoring, what_decides
from srfgan_cli.reproduction.rows import AS_MANY_IMAGES
from srfgan_cli.runs.plan import check_schedule
from srfgan_cli.screen.console import stderr

Began = Callable[[str], Config | None]
"""By a training's key, the config that a run of it is done with or goes on with; None where it starts anew."""
JobKind = Literal["pretrain", "extract", "finetune", "eval"]
_Run = tuple[Config, StageName]


@dataclass(frozen=True)
class Settings:
    """How a table's presets are changed alike for one reproduction.

    Attributes:
        scale: factor on the iterations of every stage.
        seeds: how often each row runs; seeds count up from the preset's.
        evaluations: how often a detector is scored during its last stage.
        overlay: a preset's name or YAML file laid over every row's preset.
        overrides: `a.b=value` changes of every row's preset.
        data: identifies the data set; runs on other data are other runs.
        unlabeled: identifies the images for self-training; empty where none are given.
    """

    scale: float = 1.0
    seeds: int = 1
    evaluations: int = 5
    overlay: str | None = None
    overrides: tuple[str, ...] = ()
    data: str = ""
    unlabeled: str = ""


@dataclass(frozen=True)
class Job:
    """One run: a training stage, or the evaluation of a trained detector in another way.

    Attributes:
        key: names its folder; readable, and unique by what decides the result.
        sources: keys of the jobs that it starts from, by the option that names their file.
    """

    key: str
    kind: JobKind
    config: Config
    sources: dict[str, str]

    @property
    def solver(self) -> SolverConfig | None:
        """Its schedule; None for an evaluation."""
        if self.kind == "eval":
            return None
        solver: SolverConfig = getattr(self.config, self.kind).solver
        return solver

    @property
    def images(self) -> int:
        """Training images that it sees, repetitions counted."""
        return self.solver.images if self.solver else 0


@dataclass
class Graph:
    """The runs of a table.

    Attributes:
        jobs: by key, each after those that it starts from; the first seed's first.
        results: per row (preset) and seed, the key of the job that scores it; a row's first seed first.
        rows: in the order of the report.
        loaded: presets as the settings change them, at full scale.
    """

    rows: list[Entry]
    jobs: dict[str, Job] = field(default_factory=dict)
    results: dict[tuple[str, int], str] = field(default_factory=dict)
    loaded: dict[str, Config] = field(default_factory=dict, repr=False)

    @property
    def presets(self) -> list[str]:
        """What is scored, in order."""
        return list(dict.fromkeys(preset for preset, _ in self.results))

    def by_seed(self, row: str) -> dict[int, str]:
        """The jobs that score a row, in the order of the seeds."""
        return {seed: key for (name, seed), key in self.results.items() if name == row}

    def first(self, row: str) -> str:
        """The job that scores a row's first seed."""
        return next(iter(self.by_seed(row).values()))

    def training(self, key: str) -> Job:
        """The training whose detector a job scores."""
        job = self.jobs[key]
        return self.jobs[job.sources["weights"]] if job.kind == "eval" else job

    def ancestors(self, key: str) -> list[Job]:
        """The jobs that one rests on and itself, each once, in order."""
        wanted = {key}
        for name in reversed(self.jobs):
            if name in wanted:
                wanted.update(self.jobs[name].sources.values())
        return [job for name, job in self.jobs.items() if name in wanted]

    def rows_of(self, key: str) -> list[str]:
        """The rows that need a job, in order."""
        needing = [
            row
            for (row, _), result in self.results.items()
            if any(j.key == key for j in self.ancestors(result))
        ]
        return list(dict.fromkeys(needing))


def build_graph(rows: Sequence[Entry], settings: Settings, began: Began = lambda _: None) -> Graph:
    """Every run that the rows need.

    A training is scored as the settings say, if they do not find it done or begun with another scoring, which does
    not make it another training: then the scoring that they ask for is an evaluation of its own.

    Raises:
        InputError: a preset that the settings make invalid, or a row that rests on a stage that is not run.
    """
    graph = Graph(list(rows))
    for seed in range(settings.seeds):
        for row in rows:
            graph.results[row.preset, seed] = scored_job(graph, row.preset, seed, settings, began)
    return graph


def detector_job(graph: Graph, row: str) -> Job:
    """The training whose detector a row's first score is of."""
    return graph.training(graph.first(row))


def scaled(config: Config, settings: Settings, seed: int) -> Config:
    """A preset as one of its runs has it: another seed, shorter stages, checkpoints and scores at their share."""
    stages: dict[str, Any] = {}
    for name in ("pretrain", "extract", "finetune"):
        stage = getattr(config, name)
        iterations = max(1, round(stage.solver.iterations * settings.scale))
        solver = stage.solver.shortened(iterations)
        update = {
            "log_every": min(solver.log_every, max(1, iterations // 50)),
            "checkpoint_every": min(solver.checkpoint_every, max(1, iterations // 10)),
        }
        if name == config.stages[-1] and settings.evaluations > 1:
            update["evaluate_every"] = -(-iterations // settings.evaluations)
        stages[name] = stage.model_copy(update={"solver": solver.model_copy(update=update)})
    return config.model_copy(update={**stages, "seed": config.seed + seed})


def scored_job(
    graph: Graph, preset: str, seed: int, settings: Settings, began: Began = lambda _: None
) -> str:
    """Add what a preset's score rests on; returns the key of the job that gives it.

    It is the preset's last stage, or that detector scored once more in another way.

    Raises:
        InputError: as `build_graph`.
    """
    config = _config(graph, preset, seed, settings)
    source = _config(graph, config.sources.detector or preset, seed, settings)
    trained = _training(graph, source, source.stages[-1], seed, settings)
    if scoring(began(trained) or graph.jobs[trained].config) == scoring(config):
        return trained
    return _add(graph, "eval", config, {"weights": trained}, {"scoring": scoring(config), "weights": trained})


def _training(
    graph: Graph, config: Config, stage: Any, seed: int, settings: Settings, above: tuple[_Run, ...] = ()
) -> str:
    """Add a training with all that it rests on; returns its key.

    Args:
        above: the runs that rest on this one, each on the next.

    Raises:
        InputError: as `build_graph`, or it rests on itself.
    """
    above = _below(above, (config, stage))
    where = source_presets(config)
    sources: dict[str, str] = {}
    for name in needed_sources(config, stage):
        source_stage, source_preset = where[name]
        source = _config(graph, source_preset, seed, settings)
        if name == "distill":
            require_distilled(config, "--set sources.distill=PRESET")
            source = _larger(source, source_preset)
        if source_stage not in source.stages:
            raise InputError(
                f"{config.name} rests on the {source_stage} run of {source_preset}, which has none."
            )
        sources[option_of(name, stage)] = _training(graph, source, source_stage, seed, settings, above)
    if stage == "finetune" and config.finetune.self_training is not None:
        sources["teacher"] = _teacher(graph, config, seed, settings, above)
    return _add(
        graph,
        stage,
        config,
        sources,
        what_decides(config, stage, settings.unlabeled) | {"sources": sources, "data": settings.data},
    )


def _below(above: tuple[_Run, ...], run: _Run) -> tuple[_Run, ...]:
    """The runs that rest on what a run rests on: those above it, and itself.

    Raises:
        InputError: it is one of those above.
    """
    if run in above:
        circle = [f"{stage} of {config.name}" for config, stage in (*above[above.index(run) :], run)]
        raise InputError(
            f"sources: runs rest on each other in a circle: {' -> '.join(circle)}. Name another preset in "
            f"the `sources` of {run[0].name}, or of those that it names; --set sources.guide=NAME and the like reach "
            "all of them."
        )
    return (*above, run)


def _larger(config: Config, preset: str) -> Config:
    """A generator's recipe as another learns from it: what was said for all presets of learning so is not for it."""
    if config.pretrain.distill is None or load_preset(preset).pretrain.distill is not None:
        return config
    return config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"distill": None})})


def _teacher(graph: Graph, config: Config, seed: int, settings: Settings, above: tuple[_Run, ...]) -> str:
    """The run whose detector labels the unlabelled images: the row's own recipe without them.

    Raises:
        InputError: there are no unlabelled images.
    """
    if not settings.unlabeled:
        raise InputError(
            f"Row {config.name} trains with pseudo-labels: name images with --unlabeled DIR, leave it out with "
            "--rows, or train without them by --set finetune.self_training=null."
        )
    alone = config.finetune.model_copy(update={"self_training": None})
    return _training(graph, config.model_copy(update={"finetune": alone}), "finetune", seed, settings, above)


def _config(graph: Graph, preset: str, seed: int, settings: Settings) -> Config:
    if preset not in graph.loaded:
        config = load_as_set(preset, settings)
        if preset in AS_MANY_IMAGES:
            config = _seeing_as_much(config, load_as_set(AS_MANY_IMAGES[preset], settings))
        graph.loaded[preset] = config
    return scaled(graph.loaded[preset], settings, seed)


def load_as_set(preset: str, settings: Settings) -> Config:
    """A preset as the settings change it, at full scale; says so where it has no such upsampler as they are about.

    Raises:
        InputError: they make it invalid.
    """
    try:
        config, left_out = without_absent(load_preset(preset, settings.overrides, settings.overlay))
        for stage in config.stages:
            check_schedule(config, stage)
    except InputError as error:
        raise InputError(f"Row {preset} cannot be run with these settings. {error}") from None
    if left_out:
        told = f"{config.name} upsamples by {config.model.neck.upsampler}, and runs without {', '.join(left_out)}."
        stderr.print(told, soft_wrap=True)
    return config


def _seeing_as_much(config: Config, other: Config) -> Config:
    """A detector's training, as long as all the stages of another experiment together, in images."""
    images = sum(getattr(other, stage).solver.images for stage in other.stages)
    solver = config.finetune.solver
    longer = solver.shortened(round(images / solver.batch_size))
    return config.model_copy(update={"finetune": config.finetune.model_copy(update={"solver": longer})})


def _add(
    graph: Graph, kind: JobKind, config: Config, sources: dict[str, str], decisive: dict[str, Any]
) -> str:
    digest = hashlib.sha256(json.dumps({"kind": kind, **decisive}, sort_keys=True).encode()).hexdigest()[:10]
    model = config.model
    parts = [
        kind,
        model.detector,
        model.backbone.name.replace("/", "-"),
        model.neck.name,
        model.neck.upsampler,
    ]
    key = "-".join([*parts, f"s{config.seed}", digest])
    graph.jobs.setdefault(key, Job(key, kind, config, sources))
    return key
