"""Anchors: one size per pyramid level, every ratio at every position."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from srfgan.models.config.common import ModelConfig, Positive
from srfgan.models.strict import StrictConfig


class AnchorConfig(StrictConfig):
    """One anchor size per pyramid level, every ratio at every position."""

    sizes: list[Positive] = Field([32.0, 64.0, 128.0, 256.0, 512.0], min_length=1, max_length=64)
    ratios: list[Annotated[float, Field(ge=0.01, le=100)]] = Field(
        [0.5, 1.0, 2.0], min_length=1, max_length=64
    )
    """Height over width."""

    def scaled(self, factor: float) -> Self:
        """Anchors of `factor` times the size."""
        return self.model_copy(update={"sizes": [size * factor for size in self.sizes]})


class AnchoredConfig(ModelConfig):
    """What detectors with anchors have in common: one size for each of their levels."""

    anchors: AnchorConfig = AnchorConfig()

    @model_validator(mode="after")
    def _one_anchor_size_per_level(self) -> Self:
        levels, sizes = self.levels, self.anchors.sizes
        if len(sizes) != len(levels):
            raise ValueError(
                f"anchors.sizes needs one size for each of {levels[0]}..{levels[-1]} ({len(levels)}), "
                f"got {len(sizes)}"
            )
        return self

    def scaled(self, factor: float) -> Self:
        """With anchors of `factor` times the size."""
        return self.model_copy(update={"anchors": self.anchors.scaled(factor)})
