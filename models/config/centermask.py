"""CenterMask: FCOS with a mask branch; CenterMask2's numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from srfgan.models.config.fcos import FCOSBoxesConfig
from srfgan.models.config.masks import MaskHeadConfig
from srfgan.models.strict import StrictConfig


class MaskBranchConfig(StrictConfig):
    """What CenterMask has besides FCOS and a mask head."""

    proposal_threshold: float = Field(0.05, ge=0, le=1)
    """Training: class score from which a box of FCOS may train the masks."""
    proposals_per_image: int = Field(100, ge=1, le=100_000)
    """Training: best boxes of FCOS, to which the ground-truth boxes are added."""
    masks_per_image: int = Field(128, ge=1, le=100_000)
    """Training: most of these boxes that masks are learnt on."""
    iou_convs: int = Field(4, ge=1, le=64)
    """Convolutions of the mask-IoU head, as wide as the mask head's."""
    iou_fc_dim: int = Field(1024, ge=8, le=16_384)


class CenterMaskConfig(FCOSBoxesConfig):
    """CenterMask."""

    pooled: ClassVar[int] = 3
    has_masks: ClassVar[bool] = True
    has_mask_scores: ClassVar[bool] = True
    counted: ClassVar[str] = "positive places, their centre-ness, and masks"
    inference_in_training: ClassVar[tuple[str, ...]] = ("nms_iou",)
    """The masks learn on boxes that FCOS's NMS has left."""

    detector: Literal["centermask"] = "centermask"
    centermask: MaskBranchConfig = MaskBranchConfig()
    mask_head: MaskHeadConfig = MaskHeadConfig()
