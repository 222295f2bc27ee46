"""The RoI mask head of Mask R-CNN and CenterMask."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from srfgan.models.strict import StrictConfig


class MaskHeadConfig(StrictConfig):
    """RoI mask head of Mask R-CNN and CenterMask."""

    num_convs: int = Field(4, ge=0, le=64)
    channels: int = Field(256, ge=8, le=8192)
    norm: Literal["none", "bn"] = "none"
    """Of these convolutions; with a norm they have no bias."""
    resolution: int = Field(14, ge=1, le=128)
    """RoIAlign's output; the mask logits have twice this."""
