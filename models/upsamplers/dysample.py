"""DySample: every new pixel is read from the old map at a point that the map itself moves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.errors import InputError
from srfgan.models.upsamplers.resampling import read_moved


class DySample(nn.Module):
    """Dynamic upsampling by point sampling (Liu et al., "Learning to Upsample by Learning to Sample", section 3).

    The paper's `DySample`: offsets by a linear layer, then pixel shuffle; a static scope factor. The untrained
    module is nearly a bilinear interpolation. Each group of channels has its own points.

    Args:
        channels: of the map; a multiple of `groups`.
        groups: how many groups of channels (G).
        scope: what the offsets are multiplied with; 0.25 keeps neighbouring points just apart.
    """

    def __init__(self, channels: int, groups: int = 4, scope: float = 0.25) -> None:
        super().__init__()
        if channels % groups:
            raise InputError(
                f"channels must be a multiple of {groups}, got {channels}: DySample moves {groups} groups of them"
            )
        self.groups = groups
        self.scope = scope
        self.offset = nn.Conv2d(channels, 2 * groups * 4, 1)
        nn.init.normal_(self.offset.weight, std=0.001)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W)."""
        precise = torch.promote_types(x.dtype, torch.float32)
        moved = F.pixel_shuffle(self.offset(x), 2).to(precise) * self.scope  # (N, 2 * groups, 2H, 2W)
        return read_moved(x, moved.unflatten(1, (self.groups, 2)))
