"""RetinaNet; detectron2's numbers."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from models.config.anchors import AnchorConfig
from models.config.common import ModelConfig, StrictConfig


class RetinaNetHeadConfig(StrictConfig):
    """RetinaNet's head."""

    num_convs: int = Field(4, ge=1, le=64)
    """Convolutions of each tower."""
    pre_nms_topk: int = Field(1000, ge=1, le=100_000)
    """Best pairs of anchor and class of each level that go into NMS."""


class RetinaNetConfig(ModelConfig):
    """RetinaNet."""

    finest: ClassVar[int] = 3
    coarser_from: ClassVar[Literal["res5", "p5"] | None] = "res5"

    detector: Literal["retinanet"] = "retinanet"
    anchors: AnchorConfig = AnchorConfig()
    retinanet: RetinaNetHeadConfig = RetinaNetHeadConfig()

    @model_validator(mode="after")
    def _one_anchor_size_per_level(self) -> Self:
        self.anchors.check(self.levels)
        return self

    def scaled(self, factor: float) -> Self:
        """With anchors of `factor` times the size."""
        return self.model_copy(update={"anchors": self.anchors.scaled(factor)})
