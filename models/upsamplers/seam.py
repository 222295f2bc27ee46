"""The one place where a pyramid calls its upsampler, plain or guided."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def upsample_to(upsample: nn.Module, coarse: Tensor, fine: Tensor) -> Tensor:
    """`coarse` at twice its size, cut to `fine`'s: twice a side that was rounded up is a pixel too many.

    Args:
        upsample: as for `doubled`.
        coarse: (N, C, H, W).
        fine: the map that the result is added to, (N, C, h, w) with h = 2H or 2H - 1 and w = 2W or 2W - 1.

    Returns:
        (N, C, h, w).
    """
    return doubled(upsample, coarse, fine)[..., : fine.shape[-2], : fine.shape[-1]]


def doubled(upsample: nn.Module, coarse: Tensor, fine: Tensor) -> Tensor:
    """`coarse` at twice its size, by any upsampler.

    Args:
        upsample: called with `coarse`, (N, C, H, W) to (N, C, 2H, 2W). A module with an attribute `guided` that is
            true is called with `coarse` and the finer map, which for it is (N, C, 2H, 2W) always: zeros
            stand where `fine` lacks a row or a column.
        coarse: (N, C, H, W).
        fine: (N, C, h, w), at most 2H x 2W.

    Returns:
        (N, C, 2H, 2W).
    """
    if getattr(upsample, "guided", False):
        below, right = (2 * coarse.shape[side] - fine.shape[side] for side in (-2, -1))
        new: Tensor = upsample(coarse, F.pad(fine, [0, right, 0, below]))
    else:
        new = upsample(coarse)
    return new
