"""Anchor boxes of a pyramid level."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from srfgan.models.ops.remembered import Remembered

_SIZES = 8
"""Of batches whose anchors are kept: 4 MB each at 800x1333 pixels."""


def cell_anchors(size: float, ratios: Sequence[float]) -> Tensor:
    """Anchors (A, 4) float32 around the origin: area size^2, one per ratio (height / width), not rounded."""
    rows = []
    for ratio in ratios:
        width = math.sqrt(size**2 / ratio)
        height = ratio * width
        rows.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(rows, dtype=torch.float32)


def grid_anchors(cell: Tensor, height: int, width: int, stride: int) -> Tensor:
    """`cell` (A, 4) repeated over a feature map: (height * width * A, 4), in the order row, column, anchor.

    Centres lie at (column * stride, row * stride), without a half-stride offset (detectron2's offset 0).
    """
    ys = torch.arange(height, device=cell.device, dtype=cell.dtype) * stride  # (H,)
    xs = torch.arange(width, device=cell.device, dtype=cell.dtype) * stride  # (W,)
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")  # (H, W), (H, W)
    shifts = torch.stack([grid_x, grid_y, grid_x, grid_y], dim=-1)  # (H, W, 4)
    return (shifts[:, :, None] + cell).reshape(-1, 4)


class AnchorGrids:
    """The anchors of all levels, made once for each size of maps and kept for the last few sizes; for any threads."""

    def __init__(self) -> None:
        self._kept: dict[tuple[tuple[int, int], ...], Remembered[list[Tensor]]] = {}
        self._turn = threading.Lock()

    def of(self, cells: Sequence[Tensor], strides: Sequence[int], maps: Sequence[Tensor]) -> list[Tensor]:
        """`grid_anchors` of each level, (H * W * A, 4), not to be changed in place.

        Args:
            cells: (A, 4) of each level.
            strides: of each level.
            maps: of each level, (..., H, W).
        """

        def grids() -> list[Tensor]:
            return [
                grid_anchors(cell, x.shape[-2], x.shape[-1], stride)
                for cell, stride, x in zip(cells, strides, maps, strict=True)
            ]

        if torch.compiler.is_compiling():
            return grids()
        sizes = tuple((x.shape[-2], x.shape[-1]) for x in maps)
        with self._turn:
            kept = self._kept.pop(sizes, None) or Remembered()
            if len(self._kept) == _SIZES:
                self._kept.pop(next(iter(self._kept)))
            self._kept[sizes] = kept  # the last one now
        return kept.of(cells, grids)

    def __deepcopy__(self, memo: dict[int, object]) -> AnchorGrids:
        return AnchorGrids()

    def __reduce__(self) -> tuple[type[AnchorGrids], tuple[()]]:
        return AnchorGrids, ()


def flatten_map(x: Tensor, width: int) -> Tensor:
    """(N, A * width, H, W) to (N, H * W * A, width), the order of `grid_anchors`."""
    batch, _, height, columns = x.shape
    x = x.view(batch, -1, width, height, columns).permute(0, 3, 4, 1, 2)  # (N, H, W, A, width)
    return x.reshape(batch, -1, width)
