"""RetinaNet; detectron2's numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from srfgan.models.config.anchors import AnchoredConfig
from srfgan.models.strict import StrictConfig


class RetinaNetHeadConfig(StrictConfig):
    """RetinaNet's head."""

    num_convs: int = Field(4, ge=1, le=64)
    """Convolutions of each tower."""
    pre_nms_topk: int = Field(1000, ge=1, le=100_000)
    """Best pairs of anchor and class of each level that go into NMS."""


class RetinaNetConfig(AnchoredConfig):
    """RetinaNet."""

    finest: ClassVar[int] = 3
    coarser_from: ClassVar[Literal["res5", "p5"] | None] = "res5"
    counted: ClassVar[str] = "positive anchors, which move an average"

    detector: Literal["retinanet"] = "retinanet"
    retinanet: RetinaNetHeadConfig = RetinaNetHeadConfig()
