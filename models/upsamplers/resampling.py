"""New pixels read from a map at points that move: what DySample and FreqFusion share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def read_moved(x: Tensor, moved: Tensor) -> Tensor:
    """A map read, bilinearly, where each new pixel lies and as much further as it says; its border goes on outside.

    Args:
        x: (N, C, H, W), of any size: its corners are the new map's. Computed in `moved`'s dtype.
        moved: (N, G, 2, height, width), right and down, in twice the size of new pixels; a point for each of G
            groups of channels.

    Returns:
        (N, C, height, width), of `x`'s dtype.
    """
    groups, (height, width) = moved.shape[1], moved.shape[-2:]
    moved = moved.flatten(0, 1)  # (N * G, 2, height, width)
    # In twice new pixels, from the map's corner; new pixel i starts at (i + 0.5) / 2.
    columns = (torch.arange(width, dtype=moved.dtype, device=x.device) + 0.5) / 2 + moved[:, 0]
    rows = (torch.arange(height, dtype=moved.dtype, device=x.device) + 0.5)[:, None] / 2 + moved[:, 1]
    points = torch.stack([4 * columns / width - 1, 4 * rows / height - 1], dim=-1)
    grouped = x.unflatten(1, (groups, -1)).flatten(0, 1).to(moved.dtype)  # (N * G, C / G, H, W)
    read = F.grid_sample(grouped, points, padding_mode="border", align_corners=False)
    split: Tensor = read.unflatten(0, (-1, groups))  # (N, G, C / G, height, width)
    return split.flatten(1, 2).to(x.dtype)
