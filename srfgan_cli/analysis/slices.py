"""Which objects are found, and which classes are taken for which, at one score threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from srfgan_cli.analysis.errors import KINDS, Errors
from srfgan_cli.analysis.matches import Matches
from srfgan_cli.evaluation.crowding import GROUPS, group_of

_SIZES = (0.0, 16.0, 32.0, 64.0, 96.0, np.inf)
"""Roots of areas in pixels; 32 and 96 are COCO's."""


@dataclass(frozen=True)
class Slice:
    """Objects of one kind.

    Attributes:
        name: which.
        objects: how many.
        found: how many of them.
    """

    name: str
    objects: int
    found: int

    @property
    def recall(self) -> float | None:
        """0..1; None without objects."""
        return self.found / self.objects if self.objects else None


def found_from(matches: Matches, threshold: float) -> np.ndarray:
    """(G,) bool: objects that a detection of at least this score is."""
    found = np.zeros(len(matches.found), bool)
    rows = matches.correct & (matches.score >= threshold)
    found[matches.object[rows]] = True
    return found


def by_size(matches: Matches, threshold: float) -> list[Slice]:
    """Objects by the root of their area."""
    names = ["under 16 px", "16 to 32 px", "32 to 64 px", "64 to 96 px", "96 px and more"]
    return _sliced(np.sqrt(matches.truth_area), _SIZES, names, found_from(matches, threshold))


def by_crowding(matches: Matches, threshold: float) -> list[Slice]:
    """Objects by how much their boxes overlap with the nearest of their class."""
    edges = range(len(GROUPS) + 1)
    return _sliced(group_of(matches.nearest), edges, GROUPS, found_from(matches, threshold))


def _sliced(
    values: np.ndarray, edges: Sequence[float], names: Sequence[str], found: np.ndarray
) -> list[Slice]:
    slices = []
    for name, low, high in zip(names, edges, edges[1:], strict=False):
        inside = (values >= low) & (values < high)
        slices.append(Slice(name, int(inside.sum()), int(found[inside].sum())))
    return slices


def confusion(matches: Matches, errors: Errors, threshold: float) -> np.ndarray:
    """How often each class (row; the last: nothing) was taken for each (column; the last: nothing).

    Of the detections from `threshold` on. One that lies on an object of another class is taken for it, if no detection
    of the right class is that object, and no better one of a wrong class; else it is found where nothing is, as are
    all others that are no object.

    Returns:
        (C + 1, C + 1) int64.
    """
    nothing = matches.classes
    table = np.zeros((nothing + 1, nothing + 1), np.int64)
    shown = (matches.score >= threshold) & ~matches.ignored
    right = shown & matches.correct
    np.add.at(table, (matches.truth_label[matches.object[right]], matches.label[right]), 1)
    left = ~found_from(matches, threshold)
    rows = np.flatnonzero(shown & (errors.of == KINDS.index("classification")))
    rows = rows[left[matches.other_at[rows]]]
    rows = rows[np.argsort(-matches.score[rows], kind="stable")]
    objects, first = np.unique(matches.other_at[rows], return_index=True)
    taken = rows[first]
    np.add.at(table, (matches.truth_label[objects], matches.label[taken]), 1)
    left[objects] = False
    np.add.at(table, (matches.truth_label[left], nothing), 1)
    extra = shown & ~matches.correct
    extra[taken] = False
    np.add.at(table, (nothing, matches.label[extra]), 1)
    return table


@dataclass(frozen=True)
class ImageScore:
    """What is wrong in one image.

    Attributes:
        image: its number in the index.
        right, missed, false: objects found, objects not found, and detections that are none.
    """

    image: int
    right: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        """0..1; 1 where there was nothing to find and nothing was found."""
        wrong = self.missed + self.false
        return 2 * self.right / (2 * self.right + wrong) if self.right or wrong else 1.0


def by_image(matches: Matches, images: int, threshold: float) -> list[ImageScore]:
    """Every image, at a score threshold."""
    shown = (matches.score >= threshold) & ~matches.ignored
    found = found_from(matches, threshold)
    right = np.bincount(matches.truth_image[found], minlength=images)
    missed = np.bincount(matches.truth_image[~found], minlength=images)
    false = np.bincount(matches.image[shown & ~matches.correct], minlength=images)
    return [
        ImageScore(image, *counts)
        for image, counts in enumerate(zip(right.tolist(), missed.tolist(), false.tolist(), strict=True))
    ]
