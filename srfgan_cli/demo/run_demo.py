"""The demo's four trainings, one after the other, on one device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from srfgan.models.errors import InputError
from srfgan_cli.demo.pictures import Pictures, draw_pictures
from srfgan_cli.evaluation.report import Report
from srfgan_cli.machine.devices import Devices, parse_devices
from srfgan_cli.presets.config import Config, SolverConfig
from srfgan_cli.runs.folder import Run
from srfgan_cli.runs.lock import sole_use
from srfgan_cli.runs.plan import Plan, make_plan
from srfgan_cli.screen.console import stderr, styled
from srfgan_cli.screen.options import StageName, TrainOptions
from srfgan_cli.training.train_stage import train_stage

PLAIN, METHOD = "demo_nn", "demo"
"""The presets of the plain baseline and of the method."""
SUMMARY = "summary.json"
"""Written last: a folder that holds it holds a finished demo."""


@dataclass(frozen=True)
class Step:
    """One training of the demo.

    Attributes:
        name: its key in the summary, and its run's folder.
        title: what it is, for people.
        explanation: what it trains and against what, in a sentence.
    """

    name: str
    stage: StageName
    preset: str
    title: str
    explanation: str


STEPS = (
    Step(
        "baseline",
        "finetune",
        PLAIN,
        "Plain detector",
        "A Mask R-CNN whose pyramid upsamples by nearest neighbour: the baseline, and the guide of stages 1 and 2.",
    ),
    Step(
        "pretrain",
        "pretrain",
        METHOD,
        "Stage 1: generator",
        "G learns to turn the guide's features of a half-size image into those of the image, against a discriminator.",
    ),
    Step(
        "extract",
        "extract",
        METHOD,
        "Stage 2: extractor",
        "A new backbone and pyramid with G inside learn to detect in half-size images, with features like the guide's.",
    ),
    Step(
        "finetune",
        "finetune",
        METHOD,
        "Stage 3: target detector",
        "The detector itself: it takes over the extractor and trains like the baseline, as long as the baseline.",
    ),
)


@dataclass(frozen=True)
class Finished:
    """A step that has run.

    Attributes:
        config: its resolved recipe.
        seconds: wall-clock time of the training, with the final evaluation where there is one.
        report: the scores of its detector; None for stage 1, which has none.
    """

    step: Step
    config: Config
    run: Run
    seconds: float
    report: Report | None

    @property
    def iterations(self) -> int:
        """Optimizer steps."""
        return self._solver.iterations

    @property
    def images(self) -> int:
        """Training images seen, repetitions counted."""
        return self._solver.images

    @property
    def _solver(self) -> SolverConfig:
        solver: SolverConfig = getattr(self.config, self.step.stage).solver
        return solver


@dataclass(frozen=True)
class Outcome:
    """Everything that the demo's page shows.

    Attributes:
        steps: by name, in the order of `STEPS`.
        seconds: wall-clock time of the whole demo, pictures included.
        device: what it ran on, for people.
    """

    steps: dict[str, Finished]
    pictures: Pictures
    seconds: float
    device: str

    def scores(self, step: str) -> dict[str, dict[str, float | None]]:
        """`{"box": {"AP": ...}, "mask": {...}}` of a step's detector, in percent."""
        report = self.steps[step].report
        assert report is not None
        scored = report.as_json()
        return {task: scored[task] for task in ("box", "mask")}


def run_demo(
    output_dir: Path,
    devices: Devices,
    *,
    seed: int | None = None,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
) -> Outcome:
    """Train the baseline and the three stages, score both detectors and draw the pictures.

    Args:
        output_dir: gets one run folder per step and `images/`; what an earlier demo left there is replaced.
        devices: one processor.
        seed: of every random choice; default: the presets'.
        overwrite: replace a finished demo.
        overrides: `a.b=value` changes of both presets.

    Raises:
        InputError: the folder holds a finished demo or cannot be written.
        Interrupted: a signal asked to stop.
    """
    check_free(output_dir, overwrite)
    started = time.perf_counter()
    steps: dict[str, Finished] = {}
    with sole_use(output_dir), _one_thread():
        (output_dir / SUMMARY).unlink(missing_ok=True)
        for number, step in enumerate(STEPS, start=1):
            title = (f"\n{number}/{len(STEPS)}  {step.title}\n", "bold")
            stderr.print(styled(title, (step.explanation, "dim")))
            steps[step.name] = _run_step(_plan(step, output_dir, seed, overrides), step, devices)
        stderr.print("\nPictures", style="bold")
        runs = {name: finished.run for name, finished in steps.items()}
        pictures = draw_pictures(steps["finetune"].config, runs, output_dir / "images", devices.device())
    return Outcome(steps, pictures, time.perf_counter() - started, _device_name(devices))


def one_device(text: str) -> Devices:
    """Read `--devices`; `auto` takes the first GPU, or the CPU.

    Raises:
        InputError: more than one device, or none that this machine has.
    """
    devices = parse_devices(text)
    if text == "auto":
        return Devices(devices.kind, 1, devices.gpu_ids[:1])
    if devices.count > 1:
        raise InputError(f"--devices {text}: the demo runs on one device; use auto, cpu or one GPU (0,).")
    return devices


def check_free(output_dir: Path, overwrite: bool) -> None:
    """Whether a demo may be written here.

    Raises:
        InputError: it holds a finished one, and is not to be replaced.
    """
    if (output_dir / SUMMARY).is_file() and not overwrite:
        raise InputError(
            f"{output_dir} holds a finished demo. Choose another --output-dir, or --overwrite to replace it."
        )
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"--output-dir {output_dir} is a file; name a folder.")


def _plan(step: Step, output_dir: Path, seed: int | None, overrides: Sequence[str]) -> Plan:
    """The step's plan; it reads what it needs of the earlier steps in the same folder."""
    earlier = {name: Run(output_dir / name).model for name in ("baseline", "pretrain", "extract")}
    return make_plan(
        TrainOptions(
            stage=step.stage,
            preset=step.preset,
            guide=earlier["baseline"],
            generator=earlier["pretrain"] if step.stage == "extract" else None,
            extractor=earlier["extract"] if step.preset == METHOD else None,
            set_=list(overrides),
            seed=seed,
            output_dir=output_dir / step.name,
            overwrite=True,
        )
    )


def _run_step(plan: Plan, step: Step, devices: Devices) -> Finished:
    started = time.perf_counter()
    report = train_stage(plan, devices)
    return Finished(step, plan.config, plan.run, time.perf_counter() - started, report)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One CPU thread inside.

    The layers are so small that threads mostly wait for each other: on a busy machine of two cores, two
    threads made a training step 3 to 20 times slower than one (measured).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _device_name(devices: Devices) -> str:
    return torch.cuda.get_device_name() if devices.kind == "cuda" else "one CPU thread"
