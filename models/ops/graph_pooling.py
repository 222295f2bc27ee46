"""Adaptive pooling, in a graph too, whose sizes are symbols."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGEST = 5
"""Most rows of a maximum: a map is at most four times as large as what is made of it, and bins may overlap by a row."""


def adaptive_max_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """As `F.adaptive_max_pool2d`: (N, C, H, W) to (N, C, *size), no side shorter than a quarter."""
    return graph_max_pool(x, size) if torch.compiler.is_exporting() else F.adaptive_max_pool2d(x, size)


def graph_max_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """As `adaptive_max_pool`, by operations whose sizes may be symbols."""
    x = x[:, :, _rows(x.shape[-2], size[0], x.device)].amax(dim=3)  # (N, C, K, W)
    return x[..., _rows(x.shape[-1], size[1], x.device)].amax(dim=-1)


def smoothed(x: Tensor, tenths: int) -> Tensor:
    """Means of a map (N, C, H, W) over bins, so many tenths of its sides in number, bilinearly back at its size.

    The corners' means lie on the corners. Of a side that gives less than one bin, all is one.
    """
    if torch.compiler.is_exporting():
        return graph_smoothed(x, tenths)
    height, width = x.shape[-2:]
    bins = max(height * tenths // 10, 1), max(width * tenths // 10, 1)
    # torch takes the same mean for a single bin, and then changes its result's strides in place.
    pooled = x.mean((-2, -1), keepdim=True) if bins == (1, 1) else F.adaptive_avg_pool2d(x, bins)
    return F.interpolate(pooled, size=(height, width), mode="bilinear", align_corners=True)


def graph_smoothed(x: Tensor, tenths: int) -> Tensor:
    """As `smoothed`, by a matrix for each direction: a graph's tensors shall have no axis as long as there are bins."""
    down, across = (_smoothing(side, tenths, x.device).to(x.dtype) for side in x.shape[-2:])
    return down @ x @ across.t()


def _rows(length: int, count: int, device: torch.device) -> Tensor:
    """The rows (count, 5) int64 of each bin, its last row again where it has fewer."""
    index = torch.arange(count, device=device)[:, None]  # (B, 1)
    first, last = _bins(index, length, count)  # (B, 1), (B, 1)
    return torch.minimum(first + torch.arange(_LARGEST, device=device), last)


def _smoothing(length: int, tenths: int, device: torch.device) -> Tensor:
    """What each row counts in each row of the smoothed map: (length, length)."""
    count: Any = torch.sym_max(length * tenths // 10, 1)
    row = torch.arange(length, device=device)  # (L,)
    place: Tensor = row[:, None] * (count - 1) / torch.sym_max(length - 1, 1)  # (L, 1)
    bin_before = place.long()  # (L, 1)
    bin_after = (bin_before + 1).clamp(max=count - 1)  # (L, 1)
    share = place - bin_before  # (L, 1)
    before, after = (_shares(index, row, length, count) for index in (bin_before, bin_after))  # (L, L) each
    return (1 - share) * before + share * after


def _shares(index: Tensor, row: Tensor, length: int, count: Any) -> Tensor:
    """What the rows (L,) count in the mean of bins `index` (M, 1): (M, L)."""
    first, last = _bins(index, length, count)
    return ((row >= first) & (row <= last)) / (last - first + 1)


def _bins(index: Tensor, length: int, count: Any) -> tuple[Tensor, Tensor]:
    """The first row and the last of the bins `index`, of `count` in all."""
    return index * length // count, ((index + 1) * length + count - 1) // count - 1
