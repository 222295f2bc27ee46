"""Polygons kept near their image: the time and memory to rasterise one grow with the length of its outline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from srfgan_cli.data.ragged import offsets, row_of, row_sums, take
from srfgan_cli.data.segmentations import Segmentations

_REACH = 1024.0
"""Pixels that coordinates may leave their image by, or its own size where that is more."""

LONGEST = 2**20
"""Pixels that an outline may be long: far more than any object's, and a tenth of a second to rasterise."""

_FARTHEST = 2.0**40  # beyond it, float64 has no thousandths of pixels left to cut an edge at


def tame(masks: Segmentations, sizes: np.ndarray) -> tuple[Segmentations, np.ndarray, np.ndarray]:
    """Clip polygons that go far outside their image (`bounds`), and leave out endless ones.

    What lies in the image stays as it is: polygons are cut along lines outside it.

    Args:
        masks: of A annotations.
        sizes: (A, 2) height and width of each one's image.

    Returns:
        The masks, which annotation had a polygon clipped (or lost it, if none of it came near), and which one
        lost a polygon that was too long; both (A,) bool.
    """
    count = len(masks.part_first) - 1
    if not count:
        return masks, np.zeros(len(sizes), bool), np.zeros(len(sizes), bool)
    suspects = _suspects(masks, sizes)
    if not len(suspects):
        return masks, np.zeros(len(sizes), bool), np.zeros(len(sizes), bool)
    owner = row_of(masks.parts_of)
    lowest, highest = (limits[owner] for limits in bounds(sizes))
    vertices, first = take(masks.vertices, masks.part_first, suspects)
    low, high = np.zeros((count, 2)), np.zeros((count, 2))
    low[suspects] = np.minimum.reduceat(vertices, first[:-1], axis=0)
    high[suspects] = np.maximum.reduceat(vertices, first[:-1], axis=0)
    far = ((low < lowest) | (high > highest)).any(axis=1)
    if far.any():
        masks = _clipped(masks, np.flatnonzero(far), lowest, highest)
    extent = (np.minimum(high, highest) - np.maximum(low, lowest)).max(axis=1)
    long = np.zeros(count, bool)
    for part in np.flatnonzero(np.diff(masks.part_first) * extent > LONGEST):
        long[part] = _length(masks.vertices[masks.part_first[part] : masks.part_first[part + 1]]) > LONGEST
    kept = ~long & (np.diff(masks.part_first) > 0)
    flags = [np.bincount(owner[parts], minlength=len(sizes)) > 0 for parts in (far, long)]
    return masks.only(kept, np.ones(len(sizes), bool)), flags[0], flags[1]


def _suspects(masks: Segmentations, sizes: np.ndarray) -> np.ndarray:
    """The polygons that need a look, by limits that hold for all: few or none, and found without a look at each."""
    least, most = float(masks.vertices.min()), float(masks.vertices.max())
    # Divided, as a product may be beyond any float.
    suspect = np.diff(masks.part_first) > LONGEST / max(most - least, 1.0)
    lowest, highest = -_REACH, sizes.min() + _REACH
    if least < lowest or most > highest:
        beyond = ((masks.vertices < lowest) | (masks.vertices > highest)).any(axis=1)
        suspect |= row_sums(beyond, masks.part_first) > 0
    return np.flatnonzero(suspect)


def bounds(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far coordinates may go, of images of (A, 2) height and width: lowest and highest x, y, both (A, 2)."""
    sides = sizes[:, ::-1].astype(np.float64)
    margin = np.maximum(sides, _REACH)
    return -margin, sides + margin


def _clipped(
    masks: Segmentations, parts: np.ndarray, lowest: np.ndarray, highest: np.ndarray
) -> Segmentations:
    """The masks with some polygons clipped; those of which nothing is left have no vertices."""
    pieces, done = [], 0
    lengths = np.diff(masks.part_first)
    for part in parts:
        start, end = masks.part_first[part : part + 2]
        clipped = clip_polygon(masks.vertices[start:end], lowest[part], highest[part])
        pieces += [masks.vertices[done:start], clipped]
        lengths[part], done = len(clipped), end
    pieces.append(masks.vertices[done:])
    return replace(masks, vertices=np.concatenate(pieces), part_first=offsets(lengths))


def clip_polygon(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The part of a polygon within a rectangle (Sutherland and Hodgman).

    Args:
        points: (V, 2) float64 x, y.
        low, high: (2,) the rectangle's corners.

    Returns:
        (W, 2) float64; W is 0 where the polygon does not reach the rectangle.
    """
    points = points.clip(-_FARTHEST, _FARTHEST)
    for axis in (0, 1):
        points = _cut(points, points[:, axis] - low[axis])
        points = _cut(points, high[axis] - points[:, axis])
    return points.clip(low, high) if len(points) >= 3 else points[:0]


def _cut(points: np.ndarray, inside_by: np.ndarray) -> np.ndarray:
    """The polygon's part on the inner side of a line, of which every vertex lies `inside_by` (V,) inwards."""
    inside = inside_by >= 0
    if inside.all():
        return points
    before, before_by = np.roll(points, 1, axis=0), np.roll(inside_by, 1)
    crossing = inside != np.roll(inside, 1)
    share = before_by / np.where(crossing, before_by - inside_by, 1)
    crossed = before + share[:, None] * (points - before)
    cut: np.ndarray = np.stack([crossed, points], axis=1)[np.stack([crossing, inside], axis=1)]
    return cut


def _length(points: np.ndarray) -> float:
    """Pixels along the outline: the larger of an edge's two sides is what it takes to draw it."""
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
