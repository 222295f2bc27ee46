"""Max pooling to a given size, in a graph too, whose sizes are symbols."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGEST = 5
"""Most rows of a bin: a map is at most four times as large as what is made of it, and bins may overlap by a row."""


def adaptive_max_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """As `F.adaptive_max_pool2d`: (N, C, H, W) to (N, C, *size), no side shorter than a quarter."""
    return graph_max_pool(x, size) if torch.compiler.is_exporting() else F.adaptive_max_pool2d(x, size)


def graph_max_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """As `adaptive_max_pool`, by operations whose sizes may be symbols."""
    x = x[:, :, _bins(x.shape[-2], size[0], x.device)].amax(dim=3)  # (N, C, K, W)
    return x[..., _bins(x.shape[-1], size[1], x.device)].amax(dim=-1)


def _bins(length: int, count: int, device: torch.device) -> Tensor:
    """The rows (count, 5) int64 of each bin, its last row again where it has fewer."""
    index = torch.arange(count, device=device)[:, None]  # (B, 1)
    first = index * length // count  # (B, 1)
    last = ((index + 1) * length + count - 1) // count - 1  # (B, 1)
    return torch.minimum(first + torch.arange(_LARGEST, device=device), last)
