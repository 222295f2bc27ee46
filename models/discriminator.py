"""The feature patch discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from srfgan.models.ops.recomputation import in_parts
from srfgan.models.upsamplers.generators import SLOPE


class Discriminator(nn.Module):
    """D of the SRF-GAN paper (section 3.1): one real-or-fake logit per position of a feature map.

    Args:
        in_channels: channels of the feature maps.
        widths: channels of the 3x3 convolution + BN + LeakyReLU blocks.
        kernel: of the last convolution; 1 in the paper, 3 in the published code.
        normalization: `spectral` divides every convolution's weight by its largest singular value, in the place of
            batch norms; a step of the power iteration that estimates it is taken in each forward pass in training mode.

    Attributes:
        recompute: whether activations are computed again in the backward pass, for less memory.
    """

    recompute = False

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int] = (512, 1024, 1024),
        kernel: int = 1,
        normalization: Literal["batch", "spectral"] = "batch",
    ) -> None:
        super().__init__()
        batch_norms = normalization == "batch"
        pairs = pairwise([in_channels, *widths])
        self.blocks = nn.Sequential(*(_block(before, after, batch_norms) for before, after in pairs))
        self.logits = nn.Conv2d(widths[-1], 1, kernel, padding=kernel // 2)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
                if not batch_norms:
                    spectral_norm(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, 1, H, W), without a sigmoid."""
        if x.device.type == "cpu" and x.dtype == torch.float32:
            # The weights' gradient of 1024 channels takes a CPU twice as long on maps with channels last.
            x = x.contiguous()
        logits: Tensor = self.logits(in_parts(self, [self.blocks], x, recompute=self.recompute))
        return logits


def _block(before: int, after: int, batch_norm: bool) -> nn.Sequential:
    norms = [nn.BatchNorm2d(after)] if batch_norm else []
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), *norms, nn.LeakyReLU(SLOPE, inplace=True))
