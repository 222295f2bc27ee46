"""Libra R-CNN: Faster R-CNN with balanced samples, features and losses; the paper's numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from srfgan.models.config.two_stage import TwoStageConfig
from srfgan.models.strict import StrictConfig


class LibraConfig(StrictConfig):
    """What Libra R-CNN has besides Faster R-CNN."""

    iou_bins: int = Field(3, ge=1, le=1000)
    """Equal parts of the IoUs from 0 to 1; each gives as many of the box head's negatives, as far as it has them."""
    rpn_negatives_per_positive: int = Field(5, ge=1, le=100_000)
    """Most anchors without an object that the RPN learns from, for each one with an object."""
    l1_alpha: float = Field(0.5, gt=0, le=1000)
    """Of the balanced L1 loss: the smaller, the more gradient small errors have."""
    l1_gamma: float = Field(1.5, gt=0, le=1000)
    """Of the balanced L1 loss: the largest gradient of an error."""


class LibraRCNNConfig(TwoStageConfig):
    """Libra R-CNN."""

    counted: ClassVar[str] = "sampled anchors and boxes"

    detector: Literal["libra_rcnn"] = "libra_rcnn"
    libra: LibraConfig = LibraConfig()
