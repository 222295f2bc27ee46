"""The `segmentation` of many annotations as flat arrays: polygon vertices and run lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from srfgan_cli.data.ragged import offsets, row_of, row_sums, take
from srfgan_cli.data.rle import decode_strings


@dataclass(frozen=True)
class Segmentations:
    """Masks of A annotations; each has polygons, runs, or neither.

    Attributes:
        vertices: (V, 2) float64 x, y in pixels; COCO's rasterising rounds fifths of pixels, which float32 moves.
        part_first: (P + 1,) int64, each polygon's first row of `vertices`; invalid polygons are left out.
        parts_of: (A + 1,) int64, each annotation's first polygon.
        runs: (R,) int32 run lengths, column-major, background first.
        runs_of: (A + 1,) int64, each annotation's first run.
        run_sizes: (A, 2) int64, height and width that a run-length mask states; -1 without one.
        bad_polygon: (A,) bool, a polygon was left out: under 3 points, odd, or not all finite numbers. Empty
            lists are left out without a word.
        malformed: (A,) bool, there is a segmentation, but it is neither polygons nor run lengths.
    """

    vertices: np.ndarray
    part_first: np.ndarray
    parts_of: np.ndarray
    runs: np.ndarray
    runs_of: np.ndarray
    run_sizes: np.ndarray
    bad_polygon: np.ndarray
    malformed: np.ndarray

    @property
    def has_mask(self) -> np.ndarray:
        """(A,) bool, whether a polygon or any run is there."""
        found: np.ndarray = (np.diff(self.parts_of) > 0) | (np.diff(self.runs_of) > 0)
        return found

    def wrong_runs(self, image_sizes: np.ndarray) -> np.ndarray:
        """Whether a run-length mask does not fit its image of (A, 2) height, width; (A,) bool."""
        stated = self.run_sizes[:, 0] >= 0
        pixels = image_sizes[:, 0] * image_sizes[:, 1]
        fits = (self.run_sizes == image_sizes).all(axis=1) & (row_sums(self.runs, self.runs_of) == pixels)
        wrong: np.ndarray = stated & ~self.malformed & ~fits
        return wrong

    def blank_runs(self) -> np.ndarray:
        """Whether a run-length mask has no foreground pixel; (A,) bool."""
        position = np.arange(len(self.runs)) - self.runs_of[:-1][row_of(self.runs_of)]
        drawn = row_sums(np.where(position % 2 == 1, self.runs, 0), self.runs_of)
        blank: np.ndarray = (np.diff(self.runs_of) > 0) & (drawn == 0)
        return blank

    def only(self, parts: np.ndarray, runs: np.ndarray) -> Segmentations:
        """The same without some polygons and some run-length masks.

        Args:
            parts: (P,) bool, the polygons that stay.
            runs: (A,) bool, the annotations whose runs stay.
        """
        vertices, part_first = take(self.vertices, self.part_first, np.flatnonzero(parts))
        lengths = np.diff(self.runs_of)
        return replace(
            self,
            vertices=vertices,
            part_first=part_first,
            parts_of=offsets(row_sums(parts, self.parts_of)),
            runs=self.runs if runs.all() else self.runs[np.repeat(runs, lengths)],
            runs_of=offsets(np.where(runs, lengths, 0)),
        )

    def select(self, rows: np.ndarray) -> Segmentations:
        """The same for some annotations, in the order of `rows` (M,) int64."""
        parts, parts_of = take(np.arange(len(self.part_first) - 1), self.parts_of, rows)
        vertices, part_first = take(self.vertices, self.part_first, parts)
        runs, runs_of = take(self.runs, self.runs_of, rows)
        return Segmentations(
            vertices=vertices,
            part_first=part_first,
            parts_of=parts_of,
            runs=runs,
            runs_of=runs_of,
            run_sizes=self.run_sizes[rows],
            bad_polygon=self.bad_polygon[rows],
            malformed=self.malformed[rows],
        )


def joined(parts: Iterable[Segmentations]) -> Segmentations:
    """Several, one after the other; at least one."""
    # Vertices are nearly all of the memory: a bytearray grows in place, and each part's are gone before the next comes.
    vertices, others = bytearray(), []
    for part in parts:
        vertices += part.vertices.data
        others.append(replace(part, vertices=np.zeros((0, 2))))
    rows = {
        name: np.concatenate([getattr(part, name) for part in others])
        for name in ("runs", "run_sizes", "bad_polygon", "malformed")
    }
    firsts = {
        name: offsets(np.concatenate([np.diff(getattr(part, name)) for part in others]))
        for name in ("part_first", "parts_of", "runs_of")
    }
    return Segmentations(np.frombuffer(vertices).reshape(-1, 2), **rows, **firsts)


def parse_segmentations(values: list[Any]) -> Segmentations:
    """Flatten the `segmentation` values of A annotations: lists of polygons, run lengths, or None."""
    parts = [value if _is_parts(value) else [] for value in values]
    coordinates = _coordinates(chain.from_iterable(parts))
    if coordinates is None:
        return parse_segmentations([_with_numbers(value) if _is_parts(value) else value for value in values])
    lengths = np.array([len(part) for part in chain.from_iterable(parts)], np.int64)
    counts = np.array([len(polygons) for polygons in parts], np.int64)
    rest = {row: value for row, value in enumerate(values) if value is not parts[row] and value is not None}
    return flatten(rest, coordinates, lengths, counts)


def _with_numbers(parts: list[list[Any]]) -> list[list[float]]:
    """Polygons, of which those without numbers alone are no polygon any more."""
    return [part if _coordinates([part]) is not None else [math.nan] for part in parts]


def flatten(
    rest: dict[int, Any], coordinates: np.ndarray, lengths: np.ndarray, counts: np.ndarray
) -> Segmentations:
    """The `segmentation` values of A annotations.

    Args:
        rest: those that are neither lists of polygons nor None, by their row: run lengths, or something wrong.
        coordinates: all numbers of the polygons, float64.
        lengths: (P,) int64, how many numbers each polygon has.
        counts: (A,) int64, how many polygons each annotation has.
    """
    vertices, part_first, parts_of, bad_polygon = _polygons(coordinates, lengths, counts)
    with_runs = {row: value for row, value in rest.items() if _is_runs(value)}
    runs, runs_of, run_sizes, malformed = _run_lengths(with_runs, len(counts))
    malformed[[row for row in rest if row not in with_runs]] = True
    return Segmentations(vertices, part_first, parts_of, runs, runs_of, run_sizes, bad_polygon, malformed)


def _is_parts(value: Any) -> bool:
    return type(value) is list and all(type(part) is list for part in value)


def _is_runs(value: Any) -> bool:
    if not (isinstance(value, dict) and isinstance(value.get("counts"), str | list)):
        return False
    size = value.get("size")
    return (
        isinstance(size, list)
        and len(size) == 2
        and all(type(side) is int and 0 < side < 2**31 for side in size)
    )


def _polygons(
    coordinates: np.ndarray, lengths: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, offsets of polygons, offsets of annotations, and which annotation lost a polygon."""
    owner = np.repeat(np.arange(len(counts)), counts)
    first = offsets(lengths)
    valid = (lengths >= 6) & (lengths % 2 == 0)
    finite = np.isfinite(coordinates)
    if not finite.all():
        valid &= row_sums(~finite, first) == 0
    kept, kept_first = take(coordinates, first, np.flatnonzero(valid))
    parts_of = offsets(np.bincount(owner[valid], minlength=len(counts)))
    bad = np.bincount(owner[(lengths > 0) & ~valid], minlength=len(counts)) > 0
    return kept.reshape(-1, 2), kept_first // 2, parts_of, bad


def _coordinates(parts: Iterable[list[Any]]) -> np.ndarray | None:
    """All coordinates, or None where one is not a number: numpy would read the digits of a text as one."""
    numbers = list(chain.from_iterable(parts))
    if not set(map(type, numbers)) <= {int, float}:
        return None
    try:
        return np.array(numbers, np.float64)
    except OverflowError:
        return None


def _run_lengths(
    values: dict[int, dict[str, Any]], annotations: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Runs, offsets of annotations, stated sizes, and which annotation has runs that mean nothing, of given rows."""
    rows = list(values)
    counts = [value["counts"] for value in values.values()]
    strings = [count.encode("utf-8", "surrogatepass") if isinstance(count, str) else b"" for count in counts]
    lists = [count if isinstance(count, list) else [] for count in counts]
    decoded, decoded_first, valid = decode_strings(strings)
    listed, listed_first = _listed_runs(lists)

    count = len(rows)
    both = np.concatenate([decoded, listed])
    both_first = np.concatenate([decoded_first, decoded_first[-1] + listed_first[1:]])
    is_list = np.array([isinstance(count, list) for count in counts], bool)
    runs, first = take(both, both_first, np.arange(count) + count * is_list)
    good = (is_list | valid) & (row_sums((runs < 0) | (runs >= 2**31), first) == 0)
    good &= np.diff(first) > 0

    lengths = np.zeros(annotations, np.int64)
    lengths[rows] = np.where(good, np.diff(first), 0)
    broken = np.zeros(annotations, bool)
    broken[rows] = ~good
    sizes = np.full((annotations, 2), -1, np.int64)
    sizes[rows] = np.array([value["size"] for value in values.values()], np.int64).reshape(-1, 2)
    kept, _ = take(runs, first, np.flatnonzero(good))
    return kept.astype(np.int32), offsets(lengths), sizes, broken


def _listed_runs(lists: list[list[Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Runs and offsets of masks; those of anything but integers have none."""
    kept = [runs if set(map(type, runs)) <= {int} else [] for runs in lists]
    try:
        runs = np.array(list(chain.from_iterable(kept)), np.int64)
    except OverflowError:
        return _listed_runs([runs if max(map(abs, runs), default=0) < 2**31 else [] for runs in kept])
    return runs, offsets(np.array([len(runs) for runs in kept], np.int64))
