"""3x3 convolutions on a CPU by Winograd's minimal filtering F(4x4, 3x3), as batched matrix products.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", sections 3 and 4.1: a tile of 6x6 pixels gives 4x4
new ones with 36 products for each pair of channels instead of 144. The results are those of the direct sum up to
rounding, some 1e-5 of the largest. What is made of a weight for it takes four times the weight's memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TILES = 256
"""Of a strip, the part of the map that is gone through at once: enough for fast products, few enough for the cache."""

_OF_INPUT = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
    device="cpu",
)
_OF_WEIGHT = torch.tensor(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
    dtype=torch.float64,
    device="cpu",
)
_OF_WEIGHT /= 24
_OF_OUTPUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=torch.float64,
    device="cpu",
)
"""B^T, G and A^T of the paper, along one side of a tile."""
_TILE_IN, _TILE_OUT = (torch.kron(side, side).float() for side in (_OF_INPUT, _OF_OUTPUT))
"""The first and the last for a whole tile, row by row: (36, 36) and (16, 36)."""


def transformed(weight: Tensor) -> Tensor:
    """The weight of a 3x3 convolution, (C', C, 3, 3), as `convolved` wants it: (36, C, C'), float32."""
    both = torch.einsum("ia,oxab,jb->ijxo", _OF_WEIGHT, weight.double(), _OF_WEIGHT)
    return both.flatten(0, 1).float().contiguous()


def as_3x3(weight: Tensor) -> Tensor:
    """The transposed 6x6 convolution of stride 2 and padding 2 as a 3x3 one, exactly.

    Each new pixel of a doubled map rests on 3x3 old ones; the four that lie over one old pixel become channels.

    Args:
        weight: (C, C', 6, 6).

    Returns:
        (4C', C, 3, 3), whose outputs are the four pixels, row by row, of C' channels each.
    """
    taps = ([4, 2, 0], [5, 3, 1])  # of the kernel, for the first and the second new pixel
    parts = [weight[:, :, rows][..., columns] for rows in taps for columns in taps]
    return torch.stack(parts).transpose(1, 2).flatten(0, 1)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, step: int = 1) -> Tensor:
    """A 3x3 convolution with padding 1.

    Args:
        x: (N, C, H, W), float32.
        weight: `transformed`.
        bias: (C',), or None.
        step: 2 where the weight's outputs are the four pixels over each old one, as `as_3x3` gives them.

    Returns:
        (N, C', step * H, step * W), channels last.
    """
    count, channels, height, width = x.shape
    rows, columns, made = -(-height // 4), -(-width // 4), weight.shape[2]
    tiles = _tiles(x, rows, columns)
    result = x.new_empty(count, height, step, width, step, made // step**2)
    at_once = _rows_at_once(rows, count * columns)
    most = count * at_once * columns
    before, after = x.new_empty(36 * most * channels), x.new_empty(36 * most * made)
    for top in range(0, rows, at_once):
        strip = tiles[:, :, :, top : top + at_once]
        number = count * strip.shape[3] * columns
        # Into memory that is there: new pages for every strip take longer than the arithmetic.
        wide = torch.mm(_TILE_IN, strip.reshape(36, -1), out=_part(before, 36, number * channels))
        inside = torch.bmm(wide.view(36, number, channels), weight, out=_part(after, 36, number, made))
        block = torch.mm(_TILE_OUT, inside.view(36, -1)).view(-1, result.shape[-1])
        if bias is not None:
            block += bias
        _place(block.view(4, 4, count, -1, columns, step, step, result.shape[-1]), result[:, 4 * top :])
    return result.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def _tiles(x: Tensor, rows: int, columns: int) -> Tensor:
    """The overlapping tiles of a map, zeros around it: a view (6, 6, N, rows, columns, C)."""
    count, channels, height, width = x.shape
    padded = x.new_empty(count, 4 * rows + 2, 4 * columns + 2, channels)
    for border in (padded[:, :1], padded[:, height + 1 :], padded[:, :, :1], padded[:, :, width + 1 :]):
        border.zero_()
    padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    image, row, pixel, _ = padded.stride()
    return padded.as_strided(
        (6, 6, count, rows, columns, channels), (row, pixel, image, 4 * row, 4 * pixel, 1)
    )


def _rows_at_once(rows: int, tiles_of_a_row: int) -> int:
    """Rows of tiles in a strip; all strips of a map are about equally high."""
    strips = -(-rows // max(1, _TILES // tiles_of_a_row))
    return -(-rows // strips)


def _place(block: Tensor, result: Tensor) -> None:
    """Put the pixels of a strip's tiles, (4, 4, N, rows, columns, step, step, C'), into (N, H, step, W, step, C').

    What tiles have beyond the map's borders is left out.
    """
    rows, columns = block.shape[3:5]
    for i in range(4):
        for j in range(4):
            place = result[:, i : 4 * rows : 4, :, j : 4 * columns : 4]
            pixels = block[i, j, :, : place.shape[1], : place.shape[3]]
            place.copy_(pixels.transpose(2, 3))


def _part(memory: Tensor, *shape: int) -> Tensor:
    """The beginning of it in a shape."""
    return memory[: torch.Size(shape).numel()].view(shape)
