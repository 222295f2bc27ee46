"""Spatial attention of CenterMask's mask head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SpatialAttention(nn.Module):
    """Features weighted by place: by the sigmoid of a 3x3 convolution of their mean and their largest channel.

    CenterMask paper, section 3.3 (SAG-Mask), equations 3 and 4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)  # (N, 2, H, W)
        weighted: Tensor = x * self.conv(summary).sigmoid()
        return weighted
