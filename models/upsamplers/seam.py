"""The one place where a pyramid calls its upsampler, plain or guided."""

from __future__ import annotations

import torch
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
    new, (height, width) = doubled(upsample, coarse, fine), fine.shape[-2:]
    if torch.compiler.is_exporting() and not _known_size(new, height, width):
        # Copies: of a view torch.export asks whether anything is cut off, and fixes the answer for all sizes.
        return new.narrow_copy(-2, 0, height).narrow_copy(-1, 0, width)
    return new[..., :height, :width]


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


def _known_size(x: Tensor, height: int, width: int) -> bool:
    """Whether `x` (N, C, H, W) has this size whatever the symbols in it stand for; no guard comes of asking."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(x.shape[-2] == height) and statically_known_true(x.shape[-1] == width)
