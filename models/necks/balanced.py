"""Libra R-CNN's balanced feature pyramid (section 3.2): every level also sees the refined mean of all levels."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.ops.graph_pooling import adaptive_max_pool

_MIDDLE = 2
"""Place of the level, counted from the finest, whose size the mean has."""


class BalancedPyramid(nn.Module):
    """Gathers the levels of any pyramid at one size, refines their mean and adds it to each level.

    Finer maps are max-pooled, coarser ones repeated to the nearest, both to the mean and back.

    Args:
        channels: width of the pyramid.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.refine = NonLocal(channels)

    def forward(self, pyramid: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Maps (N, C, H_l, W_l), finest first, to maps of the same names and shapes."""
        levels = list(pyramid.items())
        height, width = levels[_MIDDLE][1].shape[-2:]
        gathered = [
            adaptive_max_pool(x, (height, width)) if place < _MIDDLE else _repeated(x, (height, width))
            for place, (_, x) in enumerate(levels)
        ]
        balanced = self.refine(torch.stack(gathered).mean(dim=0))  # (N, C, H, W)
        scattered = {}
        for place, (name, x) in enumerate(levels):
            size = (x.shape[-2], x.shape[-1])
            resize = _repeated if place < _MIDDLE else adaptive_max_pool
            scattered[name] = x + resize(balanced, size)
        return scattered


class NonLocal(nn.Module):
    """A non-local block of embedded Gaussians (non-local networks, equations 1, 4 and 6), at full width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        for conv in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape: each place and what it sees of all places."""
        query, key, value = (
            conv(x).flatten(2).transpose(1, 2)[:, None] for conv in (self.query, self.key, self.value)
        )  # (N, 1, H * W, C) each
        # Sums over all channels that nothing scales down: more than half precision can tell apart.
        # (Where costs are counted, on the meta device, autocast does not exist.)
        with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            seen = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), scale=1.0)
        refined: Tensor = x + self.out(seen[:, 0].transpose(1, 2).reshape(x.shape))
        return refined


def _repeated(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="nearest")
