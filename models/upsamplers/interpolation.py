"""Upsampling without weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Interpolation(nn.Module):
    """Upsampling without weights: `nearest`, `bilinear` or `bicubic`, corners not aligned."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W)."""
        align = None if self.mode == "nearest" else False
        return F.interpolate(x, scale_factor=2.0, mode=self.mode, align_corners=align)


def nearest(channels: int) -> Interpolation:
    """Nearest neighbour, as plain detectors have it; no weights."""
    return Interpolation("nearest")


def bilinear(channels: int) -> Interpolation:
    """Bilinear interpolation; no weights."""
    return Interpolation("bilinear")


def bicubic(channels: int) -> Interpolation:
    """Bicubic interpolation; no weights."""
    return Interpolation("bicubic")
