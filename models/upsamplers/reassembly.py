"""New pixels as weighted sums of the old ones around them: what CARAFE, FreqFusion, FADE and SAPA share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def neighbourhoods(x: Tensor, kernel: int) -> Tensor:
    """The pixels around each one: (N, C, H, W) to (N, H, W, kernel**2, C), row by row; zeros outside the map."""
    height, width = x.shape[-2:]
    taps = [divmod(tap, kernel) for tap in range(kernel**2)]
    padded = F.pad(x, [kernel // 2] * 4).permute(0, 2, 3, 1)
    shifted = [padded[:, row : row + height, column : column + width] for row, column in taps]
    return torch.stack(shifted, dim=3)


def reassembled(around: Tensor, weights: Tensor) -> Tensor:
    """The four new pixels of each old one, summed from its neighbourhood.

    Args:
        around: (N, H, W, taps, C).
        weights: (N, H, W, 4, taps), for the new pixels row by row.

    Returns:
        (N, C, 2H, 2W), of `around`'s dtype. So are the products: there are far fewer weights than pixels to convert.
    """
    new = weights.to(around.dtype) @ around  # (N, H, W, 4, C)
    return F.pixel_shuffle(new.permute(0, 4, 3, 1, 2).flatten(1, 2), 2).to(around.dtype)


def upsampled(x: Tensor, weights: Tensor) -> Tensor:
    """Each new pixel as a weighted sum of the old ones around its own, by weights that lie as the new pixels do.

    Args:
        x: (N, C, H, W); zeros lie outside.
        weights: (N, taps, 2H, 2W), taps row by row of a square.

    Returns:
        (N, C, 2H, 2W), of `x`'s dtype, as are the products.
    """
    taps = weights.shape[1]
    weights = F.pixel_unshuffle(weights, 2).permute(0, 2, 3, 1).unflatten(3, (taps, 4)).transpose(3, 4)
    return reassembled(neighbourhoods(x, math.isqrt(taps)), weights)


def filtered(x: Tensor, weights: Tensor) -> Tensor:
    """Each pixel as a weighted sum of those around it: its own filter, the same in all channels.

    Args:
        x: (N, C, H, W); zeros lie outside.
        weights: (N, taps, H, W), taps row by row of a square; their dtype is the one computed in.

    Returns:
        (N, C, H, W), of `weights`' dtype.
    """
    kernel, (height, width) = math.isqrt(weights.shape[1]), x.shape[-2:]
    padded = F.pad(x.to(weights.dtype), [kernel // 2] * 4)
    # One view after another: a stack of all taps would be `kernel**2` times the map.
    new = torch.zeros_like(x, dtype=weights.dtype)
    for tap, weight in enumerate(weights.unbind(1)):
        row, column = divmod(tap, kernel)
        new = new + weight[:, None] * padded[..., row : row + height, column : column + width]
    return new
