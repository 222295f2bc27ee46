"""Faster, Mask and Cascade R-CNN: proposals, then a head for each of them; detectron2's numbers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from srfgan.models.config.anchors import AnchoredConfig
from srfgan.models.config.common import Positive
from srfgan.models.config.masks import MaskHeadConfig
from srfgan.models.strict import StrictConfig


class RPNConfig(StrictConfig):
    """Region proposal network; detectron2's numbers."""

    pre_nms_topk_train: int = Field(2000, ge=1, le=100_000)
    pre_nms_topk_test: int = Field(1000, ge=1, le=100_000)
    post_nms_topk_train: int = Field(1000, ge=1, le=100_000)
    post_nms_topk_test: int = Field(1000, ge=1, le=100_000)
    nms_iou: float = Field(0.7, gt=0, le=1)
    samples_per_image: int = Field(256, ge=1, le=100_000)
    positive_fraction: float = Field(0.5, gt=0, le=1)


class BoxHeadConfig(StrictConfig):
    """RoI box head of the two-stage detectors."""

    samples_per_image: int = Field(512, ge=1, le=100_000)
    positive_fraction: float = Field(0.25, gt=0, le=1)
    num_convs: int = Field(0, ge=0, le=64)
    """3x3 convolutions before the linear layers."""
    conv_channels: int = Field(256, ge=8, le=8192)
    norm: Literal["none", "bn"] = "none"
    """Of these convolutions; with a norm they have no bias."""
    num_fcs: int = Field(2, ge=1, le=64)
    fc_dim: int = Field(1024, ge=8, le=16_384)
    resolution: int = Field(7, ge=1, le=128)


class CascadeConfig(StrictConfig):
    """The box heads of Cascade R-CNN, one for each entry; their boxes are one for all classes."""

    ious: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.5, 0.6, 0.7], min_length=1, max_length=64)
    """From which overlap with a ground-truth box each stage counts a box as that object."""
    weights: list[Annotated[list[Positive], Field(min_length=4, max_length=4)]] = [
        [10.0, 10.0, 5.0, 5.0],
        [20.0, 20.0, 10.0, 10.0],
        [30.0, 30.0, 15.0, 15.0],
    ]
    """Factors on each stage's deltas (dx, dy, dw, dh)."""

    @model_validator(mode="after")
    def _one_entry_per_stage(self) -> CascadeConfig:
        if len(self.ious) != len(self.weights):
            raise ValueError(
                f"cascade needs as many ious as weights, got {len(self.ious)} and {len(self.weights)}"
            )
        return self


class TwoStageConfig(AnchoredConfig):
    """What the R-CNNs have in common."""

    counted: ClassVar[str] = "sampled boxes"

    rpn: RPNConfig = RPNConfig()
    box_head: BoxHeadConfig = BoxHeadConfig()


class FasterRCNNConfig(TwoStageConfig):
    """Faster R-CNN."""

    detector: Literal["faster_rcnn"] = "faster_rcnn"


class MaskRCNNConfig(TwoStageConfig):
    """Mask R-CNN."""

    has_masks: ClassVar[bool] = True
    counted: ClassVar[str] = "sampled boxes and masks"

    detector: Literal["mask_rcnn"] = "mask_rcnn"
    mask_head: MaskHeadConfig = MaskHeadConfig()


class CascadeRCNNConfig(TwoStageConfig):
    """Cascade R-CNN."""

    detector: Literal["cascade_rcnn"] = "cascade_rcnn"
    cascade: CascadeConfig = CascadeConfig()


class CascadeMaskRCNNConfig(TwoStageConfig):
    """Cascade R-CNN with Mask R-CNN's masks."""

    has_masks: ClassVar[bool] = True
    counted: ClassVar[str] = "sampled boxes and masks"

    detector: Literal["cascade_mask_rcnn"] = "cascade_mask_rcnn"
    cascade: CascadeConfig = CascadeConfig()
    mask_head: MaskHeadConfig = MaskHeadConfig()
