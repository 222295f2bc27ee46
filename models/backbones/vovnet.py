"""VoVNetV2 from timm (CenterMask paper, section 3.3), with eSE in every block as the published weights have it."""

from __future__ import annotations

from typing import Any

import timm
from timm.layers.squeeze_excite import EffectiveSEModule
from timm.models.vovnet import OsaBlock
from torch import Tensor, nn

from srfgan.models.config import BackboneConfig
from srfgan.models.ops.conv_norm import join_norms

TIMM_NAMES = {"v39": "ese_vovnet39b", "v99": "ese_vovnet99b"}

_STAGES = [["stem_0", "stem_1", "stem_2"], ["stages_0"], ["stages_1"], ["stages_2"], ["stages_3"]]


class VoVNet(nn.Module):
    """A timm VoVNet that gives {"res2", "res3", "res4", "res5"}.

    Attributes:
        body: timm's feature extractor, its norms joined to their convolutions.
        channels: channels of each output.
    """

    body: Any

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.body = timm.create_model(TIMM_NAMES[config.name], features_only=True, out_indices=(1, 2, 3, 4))
        self.channels = dict(
            zip(["res2", "res3", "res4", "res5"], self.body.feature_info.channels(), strict=True)
        )
        _add_attention(self.body)
        for depth, names in enumerate(_STAGES):
            frozen = depth < config.freeze_at
            for name in names:
                join_norms(self.body[name], frozen_norm=frozen or config.norm == "frozen_bn")
                self.body[name].requires_grad_(not frozen)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) to feature maps (N, C, H/s, W/s), s = 4, 8, 16, 32."""
        return dict(zip(self.channels, self.body(x), strict=True))


def _add_attention(body: nn.Module) -> None:
    """Give eSE to the blocks without: timm keeps it to the last block of a stage."""
    for block in body.modules():
        if isinstance(block, OsaBlock) and block.attn is None:
            block.attn = EffectiveSEModule(block.conv_concat.out_channels)
