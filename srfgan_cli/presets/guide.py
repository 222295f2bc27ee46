"""F, the trained plain detector whose pyramid stages 1 and 2 learn from: which one it is, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from srfgan_cli.presets.config import Config
from srfgan_cli.presets.describe import recipe, train_images
from srfgan_cli.presets.facts import Row
from srfgan_cli.presets.graph import needed_sources
from srfgan_cli.presets.library import list_presets, load_preset

LONGER = "_3x"
"""What the name of a preset with detectron2's longer schedule adds to that of the shorter one."""


@dataclass(frozen=True)
class Guide:
    """F of a preset.

    Attributes:
        name: the preset whose detector it is.
        config: that preset; None where none is called so, as in a file of the user's own.
    """

    name: str
    config: Config | None

    @property
    def images(self) -> int | None:
        """Training images that F sees, repetitions counted."""
        return self.config.finetune.solver.images if self.config else None

    @property
    def row(self) -> Row | None:
        """The table row that has its scores; one with published weights first."""
        rows = self.config.references if self.config else []
        return next((row for row in rows if row.weights), rows[0] if rows else None)

    @property
    def other(self) -> str | None:
        """The preset of the same detector with the other schedule, if there is one."""
        twin = self.name.removesuffix(LONGER) if self.name.endswith(LONGER) else self.name + LONGER
        return twin if twin in list_presets() else None

    def as_json(self) -> dict[str, Any]:
        """Its preset, cost and scores, and the preset that can take its place."""
        row = self.row
        return {
            "preset": self.name,
            "images": self.images,
            "row": row.name if row else None,
            "box": row.box.AP if row else None,
            "mask": row.mask.AP if row and row.mask else None,
            "weights": row.weights if row else None,
            "other": self.other,
        }


def guide_of(config: Config) -> Guide | None:
    """F of the preset's stages 1 and 2, or that stage 3 starts from; None where no stage needs it."""
    if config.sources.detector is not None or not any(
        "guide" in needed_sources(config, s) for s in config.stages
    ):
        return None
    name = config.guide
    return Guide(name, load_preset(name) if name in list_presets() else None)


def guide_lines(config: Config) -> Iterator[str]:
    """What F is and costs, for people, and what else it can be where stage 1 or 2 is the preset's own."""
    guide = guide_of(config)
    if guide is None:
        return
    if guide.config is None:
        yield f"guide F: {guide.name}, which is no preset: --set sources.guide=NAME, or --guide FILE"
        return
    yield f"guide F: {guide.name}, {recipe(guide.config)}; {_cost(guide.config)}{_scores(guide.row)}"
    borrowed = {"pretrain": config.sources.generator, "extract": config.sources.extractor}
    if all(borrowed[stage] not in (None, config.name) for stage in borrowed if stage in config.stages):
        return
    if guide.other is not None:
        other = load_preset(guide.other)
        named = f"--set sources.guide={guide.other}"
        yield f"another F: {named}: {_cost(other)}{_scores(Guide(guide.other, other).row)}"
    published = f", or --guide published: {guide.row.weights}" if guide.row and guide.row.weights else ""
    yield f"F of a file: --guide FILE{published}"


def _cost(config: Config) -> str:
    images = config.finetune.solver.images
    return f"{images:,} images, {images / train_images(config):.1f} epochs"


def _scores(row: Row | None) -> str:
    """The AP of boxes and masks, where a table has them."""
    if row is None:
        return ""
    both = {"box": row.box.AP, "mask": row.mask.AP if row.mask else None}
    said = ", ".join(f"{task} AP {value:.1f}" for task, value in both.items() if value is not None)
    return f", {said} ({row.name})" if said else ""
