"""3x3 convolutions on a CPU by Winograd's minimal filtering F(4x4, 3x3), as batched matrix products.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", sections 3 and 4.1: a tile of 6x6 pixels gives 4x4
new ones with 36 products for each pair of channels instead of 144. The results are those of the direct sum up to
rounding, some 6e-6 of the largest. What is made of a weight for it takes four times the weight's memory.

From one layer to the next maps can stay cut into `Tiles`, so that nothing is copied to and fro.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

_TILES = 200
"""Of a strip, the part of the map that is gone through at once: enough for fast products, few enough for the cache."""

_OF_INPUT = torch.tensor(
    [
        [1, 1.5, -2, -1.5, 1, 0],
        [0, -1, -2.5, -0.5, 1, 0],
        [0, 1, 0.5, -2.5, 1, 0],
        [0, -0.5, -1, 0.5, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 1, 1.5, -2, -1.5, 1],
    ],
    dtype=torch.float64,
    device="cpu",
)
_OF_WEIGHT = torch.tensor(
    [[15, 0, 0], [-5, -5, -5], [5, -5, 5], [1, 2, 4], [-16, 8, -4], [0, 0, 15]],
    dtype=torch.float64,
    device="cpu",
)
_OF_WEIGHT /= 15
_OF_OUTPUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -0.5, 0], [0, 1, 1, 4, 0.25, 0], [0, 1, -1, 8, -0.125, 1]],
    dtype=torch.float64,
    device="cpu",
)
"""B^T, G and A^T of the paper, along one side of a tile, from the points 0, 1, -1, 2, -1/2 and infinity: with the
paper's -2 for -1/2 errors are twice as large."""
_TILE_OUT = torch.kron(_OF_OUTPUT, _OF_OUTPUT).float()
"""The last for a whole tile, row by row: (16, 36)."""
_EVERYWHERE = 7
"""Which of the 36 it adds to all pixels of a tile alike."""
_SIDES = {0: (slice(0, 6), slice(0, 4)), -1: (slice(0, 1), slice(3, 4)), 1: (slice(5, 6), slice(0, 1))}
"""The 6 pixels that a tile rests on are its own 4, the last of the tile before, and the first of the tile after: by how
far that tile is, the rows of B^T that take such pixels, and which of its 4 they are."""
_ALONG = {0: _OF_INPUT[:, 1:5], -1: _OF_INPUT[:1, :1], 1: _OF_INPUT[5:, 5:]}
"""Likewise, what these rows have for them."""
_TILE_IN = {
    (down, right): torch.kron(_ALONG[down], _ALONG[right]).float() for down in _SIDES for right in _SIDES
}
"""The same for a whole tile and each of its neighbours, itself first."""


class _Strip(NamedTuple):
    """Rows of tiles of one map."""

    image: int
    top: int
    rows: int


@dataclass(frozen=True)
class Tiles:
    """Maps cut into tiles of 4x4 pixels, with zeros around them.

    A map's tiles lie in one line, row by row, with a tile of zeros after each row and before all, and a row of zeros
    before and after all. So the same step leads from any tile to its neighbour on one side.

    Attributes:
        memory: (16, N, tiles, C), float32; pixel (i, j) of each tile is in 4i + j.
        height: of the maps, in pixels; what tiles have beyond is zero.
        width: likewise.
    """

    memory: Tensor
    height: int
    width: int

    @property
    def rows(self) -> int:
        """Of tiles."""
        return -(-self.height // 4)

    @property
    def columns(self) -> int:
        """Of tiles."""
        return -(-self.width // 4)

    def strip(self, place: _Strip, down: int = 0, right: int = 0) -> Tensor:
        """The tiles of a strip, or their neighbours: a view (4, 4, rows, columns * C)."""
        pitch = self.columns + 1
        first = 1 + (1 + place.top + down) * pitch + right
        tiles = self.memory[:, place.image, first : first + place.rows * pitch]
        view: Tensor = tiles.unflatten(1, (place.rows, pitch))[:, :, :-1].flatten(2).unflatten(0, (4, 4))
        return view

    def strips(self) -> list[_Strip]:
        """All strips of all maps, those of a map about equally high."""
        count = -(-self.rows // max(1, _TILES // self.columns))
        rows = -(-self.rows // count)
        return [
            _Strip(image, top, min(rows, self.rows - top))
            for image in range(self.memory.shape[1])
            for top in range(0, self.rows, rows)
        ]

    def like(self) -> Tiles:
        """As many zeros."""
        return Tiles(torch.zeros_like(self.memory), self.height, self.width)

    def clear_beyond(self, place: _Strip) -> None:
        """Zero what the tiles of a strip have beyond the map."""
        tiles = self.strip(place).unflatten(3, (self.columns, -1))
        tiles[:, self.width - 4 * (self.columns - 1) :, :, -1] = 0
        if place.top + place.rows == self.rows:
            tiles[self.height - 4 * (self.rows - 1) :, :, -1] = 0


def cut(x: Tensor) -> Tiles:
    """The tiles of maps (N, C, H, W), float32."""
    count, channels, height, width = x.shape
    rows, pitch = -(-height // 4), -(-width // 4) + 1
    memory = x.new_zeros(16, count, (rows + 2) * pitch + 2, channels)
    inner = memory[:, :, 1 + pitch : -1 - pitch].unflatten(2, (rows, pitch))
    for i in range(4):
        for j in range(4):
            pixels = x[:, :, i::4, j::4].permute(0, 2, 3, 1)
            inner[4 * i + j, :, : pixels.shape[1], : pixels.shape[2]] = pixels
    return Tiles(memory, height, width)


def transformed(weight: Tensor, step: int = 1) -> Tensor:
    """The weight of a 3x3 convolution as `convolved` wants it.

    Args:
        weight: (step^2 C', C, 3, 3).
        step: 2 for what `as_3x3` gives, whose outputs are the four pixels over each old one.

    Returns:
        (step^2, 36, C, C'), float32.
    """
    both = torch.einsum("ia,oxab,jb->ijxo", _OF_WEIGHT, weight.double(), _OF_WEIGHT).float()
    parts: Tensor = both.flatten(0, 1).unflatten(2, (step**2, -1)).movedim(2, 0)
    return parts.contiguous()


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


def convolve(
    x: Tiles, weight: Tensor, bias: Tensor | None, into: Tiles, *, add: bool = False, slope: float = 1.0
) -> None:
    """A 3x3 convolution with padding 1, from tiles to other ones.

    Args:
        x: of C channels.
        weight: `transformed`, (1, 36, C, C').
        bias: (C',), or None.
        into: for as many maps of C' channels; not `x`.
        add: to what is there, instead of in its place.
        slope: of a LeakyReLU after it.
    """
    for place, _, products in _products(x, weight, bias):
        strip = into.strip(place)
        _multiply(_TILE_OUT, products, strip.flatten(0, 1), add=add)
        if slope != 1:
            leaky_relu(strip, slope, inplace=True)
        into.clear_beyond(place)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3 convolution with padding 1.

    Args:
        x: (N, C, H, W), float32.
        weight: `transformed`, for a step of 1 or 2.
        bias: (C',), or None.

    Returns:
        (N, C', step * H, step * W), channels last.
    """
    step = math.isqrt(len(weight))
    result = x.new_empty(len(x), step * x.shape[2], step * x.shape[3], weight.shape[3])
    for block, place in blocks(cut(x), weight, bias, result):
        for pixels, where in pixels_of(block, place):
            where.copy_(pixels)
    return result.permute(0, 3, 1, 2)


def blocks(x: Tiles, weight: Tensor, bias: Tensor | None, result: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """A 3x3 convolution with padding 1, part by part, so that more can be done to each while it is in the cache.

    Args:
        x: of N maps.
        weight: as of `convolved`.
        bias: likewise.
        result: (N, step * H, step * W, C''), where what is made of the parts is to lie.

    Yields:
        new pixels of a strip of tiles, (16 * rows * columns, C'), in memory that the next ones take, too; and a view of
        `result`, (at most 4 * rows, W, C''). `pixels_of` tells which lies where.
    """
    step, made = math.isqrt(len(weight)), weight.shape[3]
    memory = weight.new_empty(0)
    for place, phase, products in _products(x, weight, bias):
        block = torch.mm(_TILE_OUT, products.flatten(1), out=memory.resize_(16, products[0].numel()))
        top, bottom = (4 * step * row for row in (place.top, place.top + place.rows))
        down, right = divmod(phase, step)
        yield block.view(-1, made), result[place.image, top + down : bottom : step, right::step]


def pixels_of(block: Tensor, place: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of views of a strip's tiles, (16 * rows * columns, C), and of the pixels (H, W, C) where they lie."""
    tiles = block.view(4, 4, -(-place.shape[0] // 4), -(-place.shape[1] // 4), -1)
    for i in range(4):
        for j in range(4):
            where = place[i::4, j::4]
            yield tiles[i, j, : where.shape[0], : where.shape[1]], where


def _products(x: Tiles, weight: Tensor, bias: Tensor | None) -> Iterator[tuple[_Strip, int, Tensor]]:
    """For each strip and each of the step^2 pixels over an old one: what A^T takes, (36, rows, columns * C')."""
    channels, made = weight.shape[2:]
    strips = x.strips()
    most = max(place.rows for place in strips) * x.columns
    # Into memory that is there: new pages for every strip take longer than the arithmetic.
    before, after = weight.new_empty(36 * most * channels), weight.new_empty(36 * most * made)
    for place in strips:
        number = place.rows * x.columns
        wide = _part(before, 36, number, channels)
        _transform(x, place, wide.view(6, 6, place.rows, -1))
        for phase, matrices in enumerate(weight):
            products = torch.bmm(wide, matrices, out=_part(after, 36, number, made))
            if bias is not None:
                products[_EVERYWHERE] += bias
            yield place, phase, products.view(36, place.rows, -1)


def _transform(x: Tiles, place: _Strip, wide: Tensor) -> None:
    """B^T d B of a strip's tiles, into (6, 6, rows, columns * C)."""
    for (down, right), matrix in _TILE_IN.items():
        (rows, i), (columns, j) = _SIDES[down], _SIDES[right]
        pixels = x.strip(place, down, right)[i, j].flatten(0, 1)
        _multiply(matrix, pixels, wide[rows, columns].flatten(0, 1), add=(down, right) != (0, 0))


def _multiply(matrix: Tensor, x: Tensor, into: Tensor, *, add: bool) -> None:
    """(M, K) by (K, rows, L), into or onto (M, rows, L)."""
    matrices = matrix.expand(x.shape[1], -1, -1)
    into.transpose(0, 1).baddbmm_(matrices, x.transpose(0, 1), beta=int(add))


def _part(memory: Tensor, *shape: int) -> Tensor:
    """The beginning of it in a shape."""
    return memory[: torch.Size(shape).numel()].view(shape)
