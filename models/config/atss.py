"""ATSS: RetinaNet with one anchor at each place, and samples chosen by each object's own statistics."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from srfgan.models.config.common import Positive
from srfgan.models.config.fcos import NormalisedTowersConfig
from srfgan.models.strict import StrictConfig


class ATSSHeadConfig(StrictConfig):
    """ATSS's head."""

    num_convs: int = Field(4, ge=1, le=64)
    """Convolutions of each tower."""
    anchor_strides: Positive = 8.0
    """Side of the one square anchor of a place, in its level's strides."""
    candidates_per_level: int = Field(9, ge=1, le=100_000)
    """Anchors of each level, nearest to an object's centre, that may be the object's positives."""
    box_weight: float = Field(2.0, ge=0, le=1000)
    """Of the GIoU loss."""
    pre_nms_topk: int = Field(1000, ge=1, le=100_000)
    """Best pairs of place and class of each level that go into NMS."""


class ATSSConfig(NormalisedTowersConfig):
    """ATSS."""

    detector: Literal["atss"] = "atss"
    atss: ATSSHeadConfig = ATSSHeadConfig()

    def scaled(self, factor: float) -> Self:
        """With anchors of `factor` times the size."""
        atss = self.atss.model_copy(update={"anchor_strides": self.atss.anchor_strides * factor})
        return self.model_copy(update={"atss": atss})
