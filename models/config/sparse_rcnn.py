"""Sparse R-CNN; the paper's numbers."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from srfgan.models.config.common import ModelConfig
from srfgan.models.strict import StrictConfig


class SparseHeadConfig(StrictConfig):
    """Sparse R-CNN's proposals and iterations."""

    num_proposals: int = Field(100, ge=1, le=100_000)
    """Learned boxes, the same ones for every image; also the most objects that an image can teach."""
    stages: int = Field(6, ge=1, le=64)
    """How often the boxes are refined, by a head of its own each time."""
    attention_heads: int = Field(8, ge=1, le=8192)
    """Of the self-attention among the proposals; divides neck.channels."""
    feedforward_width: int = Field(2048, ge=8, le=16_384)
    """Hidden width after the interaction."""
    dynamic_width: int = Field(64, ge=8, le=8192)
    """Between the two convolutions that each proposal's features become."""
    class_weight: float = Field(2.0, ge=0, le=1000)
    """Of the focal loss, and of its part in the matching; so are the next two."""
    l1_weight: float = Field(5.0, ge=0, le=1000)
    giou_weight: float = Field(2.0, ge=0, le=1000)


class SparseRCNNConfig(ModelConfig):
    """Sparse R-CNN."""

    counted: ClassVar[str] = "objects"

    detector: Literal["sparse_rcnn"] = "sparse_rcnn"
    sparse_rcnn: SparseHeadConfig = SparseHeadConfig()

    @property
    def pool_levels(self) -> tuple[str, ...]:
        """The finest four; with no RPN that would use a BiFPN's p7, boxes may come from there as well."""
        return self.levels if self.neck.name == "bifpn" else super().pool_levels

    @model_validator(mode="after")
    def _width_that_can_be_attended(self) -> Self:
        channels, heads = self.neck.channels, self.sparse_rcnn.attention_heads
        if channels % heads:
            raise ValueError(
                "sparse_rcnn deals neck.channels out to its attention heads: they must be a multiple of "
                f"sparse_rcnn.attention_heads ({heads}), got {channels}"
            )
        return self
