"""The pyramid levels above the coarsest one that a backbone gives: by pooling, or by convolution."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PooledLevel(nn.Module):
    """p6 is every second pixel of p5, as the two-stage detectors need it (FPN paper, footnote 2)."""

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"p6": (N, C, H/64, W/64)} of maps that hold p5."""
        return {"p6": maps["p5"][:, :, ::2, ::2]}


class MaxPooledLevels(nn.Module):
    """p6 is the pooled convolution of res5, p7 the pooled p6, as BiFPNs have them (EfficientDet's code).

    Args:
        p6: 1x1 convolution from res5's width to the pyramid's.
        pool: halves each side.
    """

    def __init__(self, p6: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.p6 = p6
        self.pool = pool

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"p6": (N, C, H/64, W/64), "p7": (N, C, H/128, W/128)} of maps that hold res5."""
        p6 = self.pool(self.p6(maps["res5"]))
        return {"p6": p6, "p7": self.pool(p6)}


class ConvLevels(nn.Module):
    """p6 is a stride-2 3x3 convolution of `source`, p7 one of ReLU(p6) (focal loss paper, section 4, footnote 2).

    Args:
        source: `res5` (RetinaNet) or `p5` (FCOS), the neck's output.
        in_channels: its width.
        channels: width of the pyramid.
    """

    def __init__(self, source: str, in_channels: int, channels: int) -> None:
        super().__init__()
        self.source = source
        self.p6 = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        for conv in (self.p6, self.p7):
            assert conv.bias is not None
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"p6": (N, C, H/64, W/64), "p7": (N, C, H/128, W/128)} of maps that hold `source`."""
        p6 = self.p6(_two_columns(maps[self.source]))
        return {"p6": p6, "p7": self.p7(_two_columns(torch.relu(p6)))}


def _two_columns(x: Tensor) -> Tensor:
    """A map of one column gets a second of zeros, which is as much as the convolution's padding.

    On processors with AVX512_BF16, oneDNN's bfloat16 gradient of the weight reads memory beyond a map of one column.
    """
    return F.pad(x, (0, 1)) if not torch.compiler.is_exporting() and x.shape[-1] == 1 else x
