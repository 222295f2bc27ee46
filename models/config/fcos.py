"""FCOS; AdelaiDet's numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from srfgan.models.config.common import ModelConfig, Positive
from srfgan.models.strict import StrictConfig


class FCOSHeadConfig(StrictConfig):
    """FCOS's head."""

    num_convs: int = Field(4, ge=1, le=64)
    """Convolutions of each tower."""
    pre_nms_topk: int = Field(1000, ge=1, le=100_000)
    """Best pairs of place and class of each level that go into NMS."""
    sizes_of_interest: list[Positive] = Field([64.0, 128.0, 256.0, 512.0], min_length=4, max_length=4)
    """Borders between the sizes that p3..p7 answer for: a box's farthest side from a place, in pixels."""

    @model_validator(mode="after")
    def _borders_in_order(self) -> Self:
        borders = self.sizes_of_interest
        if any(b <= a for a, b in pairwise(borders)):
            raise ValueError(f"sizes_of_interest must increase, got {borders}")
        return self

    def scaled(self, factor: float) -> Self:
        """With sizes of interest of `factor` times the size."""
        borders = [border * factor for border in self.sizes_of_interest]
        return self.model_copy(update={"sizes_of_interest": borders})


class NormalisedTowersConfig(ModelConfig):
    """What detectors with FCOS's towers have: levels from p3 on, and GroupNorm."""

    finest: ClassVar[int] = 3
    coarser_from: ClassVar[Literal["res5", "p5"] | None] = "p5"
    counted: ClassVar[str] = "positive places and their centre-ness"

    @model_validator(mode="after")
    def _width_that_the_towers_can_normalise(self) -> Self:
        channels = self.neck.channels
        if channels < 64 or channels % 32:
            raise ValueError(
                f"{self.detector} normalises 32 groups of at least two channels: neck.channels must be a "
                f"multiple of 32 from 64, got {channels}"
            )
        return self


class FCOSBoxesConfig(NormalisedTowersConfig):
    """What detectors have whose boxes are FCOS's: no anchors."""

    fcos: FCOSHeadConfig = FCOSHeadConfig()

    def scaled(self, factor: float) -> Self:
        """With sizes of interest of `factor` times the size."""
        return self.model_copy(update={"fcos": self.fcos.scaled(factor)})


class FCOSConfig(FCOSBoxesConfig):
    """FCOS."""

    detector: Literal["fcos"] = "fcos"
