"""What a preset amounts to: the size and arithmetic of its detector, the stages' schedules, the rows it reproduces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from srfgan.models.cost import HEIGHT, WIDTH
from srfgan_cli.presets.config import Config, SolverConfig, StageName
from srfgan_cli.presets.costs import cost_of_preset
from srfgan_cli.presets.describe import describe, header, train_images
from srfgan_cli.presets.guide import guide_lines, guide_of

_TITLES: dict[StageName, str] = {
    "pretrain": "stage 1, pretrain",
    "extract": "stage 2, extract",
    "finetune": "stage 3, finetune",
}


@dataclass(frozen=True)
class Schedule:
    """One stage of a preset.

    Attributes:
        stage: its command.
        preset: whose schedule and run it is, where stages 1 and 2 are another preset's; then the rest is None.
        images: how many are seen, repetitions counted.
        epochs: the same in passes over the training images, COCO's unless the preset generates its own.
    """

    stage: StageName
    preset: str | None = None
    solver: SolverConfig | None = None
    images: int | None = None
    epochs: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields that say something; the solver's most important ones among them."""
        if self.solver is None:
            return {"stage": self.stage, "preset": self.preset}
        keys = {
            "optimizer",
            "iterations",
            "batch_size",
            "lr",
            "schedule",
            "milestones",
            "gamma",
            "warmup_iterations",
        }
        solver = self.solver.model_dump(include=keys) | {"lr": self.solver.scaled_lr}
        return {"stage": self.stage, **solver, "images": self.images, "epochs": self.epochs}

    def __str__(self) -> str:
        title = _TITLES[self.stage]
        if self.solver is None:
            return f"{title}: that of {self.preset}"
        solver = self.solver
        steps = ", ".join(f"{milestone:,}" for milestone in solver.milestones)
        decay = f", x{solver.gamma:g} at {steps}" if steps else ""
        return (
            f"{title}: {solver.iterations:,} iterations of {solver.batch_size} = {self.images:,} images, "
            f"{self.epochs:.1f} epochs; {solver.optimizer}, lr {solver.scaled_lr:g}"
            + (", a cosine to 0" if solver.schedule == "cosine" else decay)
        )


def schedules(config: Config) -> list[Schedule]:
    """The stages that lead to the preset's detector, in their order."""
    sources: dict[StageName, str | None] = {
        "pretrain": config.sources.generator,
        "extract": config.sources.extractor,
        "finetune": None,
    }
    solvers: dict[StageName, SolverConfig] = {
        "pretrain": config.pretrain.solver,
        "extract": config.extract.solver,
        "finetune": config.finetune.solver,
    }
    found = []
    for stage, source in sources.items():
        if source not in (None, config.name):
            found.append(Schedule(stage, source))
        elif stage in config.stages and config.sources.detector is not None:
            found.append(Schedule(stage, config.sources.detector))
        elif stage in config.stages:
            solver = solvers[stage]
            epochs = solver.images / train_images(config)
            found.append(Schedule(stage, None, solver, solver.images, epochs))
    return found


def summary(config: Config) -> dict[str, Any]:
    """The preset as one JSON document."""
    cost, guide = cost_of_preset(config), guide_of(config)
    return {
        "preset": config.name,
        "description": describe(config),
        "parameters": cost.parameters,
        "macs": {"image": [HEIGHT, WIDTH], "total": cost.macs} | _parts(asdict(cost)),
        "guide": guide.as_json() if guide else None,
        "stages": [schedule.as_json() for schedule in schedules(config)],
        "references": [row.as_json() for row in config.references],
        "config": config.model_dump(exclude_none=True),
    }


def summary_lines(config: Config, preset: str, settings: Sequence[str] = ()) -> Iterator[str]:
    """The same for people, without the config; `preset` and `settings` are what it is called in a command."""
    cost = cost_of_preset(config)
    parts = ", ".join(f"{part} {macs / 1e9:.1f}" for part, macs in _parts(asdict(cost)).items())
    yield from header(config, preset, settings)
    yield f"parameters: {cost.parameters / 1e6:.1f} M"
    yield f"GMACs at {HEIGHT}x{WIDTH}: {cost.macs / 1e9:.1f} ({parts}), with as many boxes as the config allows"
    yield from guide_lines(config)
    yield from map(str, schedules(config))


def _parts(cost: dict[str, int]) -> dict[str, int]:
    return {part: cost[part] for part in ("backbone", "neck", "head")}
