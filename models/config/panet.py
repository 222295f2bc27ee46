"""PANet: Mask R-CNN whose heads read every box from all levels, and whose masks have a fully connected view."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from srfgan.models.config.masks import MaskHeadConfig
from srfgan.models.config.two_stage import TwoStageConfig


class PANetConfig(TwoStageConfig):
    """PANet's heads; its bottom-up path is the neck `pafpn` of the wiring `paper`."""

    has_masks: ClassVar[bool] = True

    detector: Literal["panet"] = "panet"
    mask_head: MaskHeadConfig = MaskHeadConfig()

    @model_validator(mode="after")
    def _a_layer_before_the_levels_are_fused(self) -> Self:
        if self.mask_head.num_convs < 1:
            raise ValueError(
                "panet fuses the levels after the mask head's first convolution: mask_head.num_convs must be 1 or "
                "more, got 0"
            )
        return self
