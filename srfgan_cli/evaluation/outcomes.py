"""What each detection is at each of COCO's IoUs where some objects count, and AP from that, of images drawn at will."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

RECALLS = np.linspace(0, 1, 101)
"""COCO averages precision over these."""


@dataclass(frozen=True)
class Outcomes:
    """Detections (D) of a data set at each IoU (T), and objects (G) that count.

    Images and classes are numbered from 0. Detections of one class stand best score first.

    Attributes:
        image, label: (D,) int64 of the detections.
        right: (D, T) bool, it is an object that counts.
        wrong: (D, T) bool, it is none; what is neither does not count.
        truth_image, truth_label: (G,) int64 of the objects.
        classes: how many (C).
    """

    image: np.ndarray
    label: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    truth_image: np.ndarray
    truth_label: np.ndarray
    classes: int

    def ap(self, times: np.ndarray) -> np.ndarray:
        """(R,) the mean of `by_class` over IoUs and classes with objects; NaN without any."""
        return mean_over_classes(self.by_class(times).mean(axis=2))

    def by_class(self, times: np.ndarray) -> np.ndarray:
        """(R, C, T) AP in percent where each image is there so often; NaN where the class has no objects.

        Args:
            times: (I, R) int32 of R draws of the I images.
        """
        found = np.full((times.shape[1], self.classes, self.right.shape[1]), np.nan)
        for label in np.unique(self.truth_label):
            objects = times[self.truth_image[self.truth_label == label]].sum(axis=0)
            rows = np.flatnonzero(self.label == label)
            of_class = _class_ap(times, self.image[rows], self.right[rows], self.wrong[rows], objects)
            found[:, label] = np.where(objects[:, None] > 0, of_class, np.nan)
        return found


def mean_over_classes(of_each: np.ndarray) -> np.ndarray:
    """(R,) of (R, C): over the classes that have a number; NaN where none has."""
    there = ~np.isnan(of_each)
    total, classes = np.where(there, of_each, 0).sum(axis=1), there.sum(axis=1)
    mean: np.ndarray = np.divide(total, classes, out=np.full(len(total), np.nan), where=classes > 0)
    return mean


def _class_ap(
    times: np.ndarray, image: np.ndarray, right: np.ndarray, wrong: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """(R, T) AP of one class, which has so many `objects` (R,) in each draw."""
    # What comes after the last that is right changes nothing. Most are wrong at every IoU, and counted once for all.
    last = np.flatnonzero(right.any(axis=1)).max(initial=-1) + 1
    shown = times[image[:last]]  # up to each: (last, R)
    _run(np.add, shown)
    rows = np.flatnonzero(~wrong[:last].all(axis=1))
    right, wrong, drawn, shown = right[rows], wrong[rows], times[image[rows]], shown[rows]
    # Of RECALLS, those that 0 to K of so many objects reach: (K + 1, U).
    counts, of_draw = np.unique(objects, return_inverse=True)
    recalls = np.arange(counts[-1] + 1)[:, None] / np.maximum(counts, 1)
    reached = np.searchsorted(RECALLS, recalls, side="right")
    found_at = np.zeros((right.shape[1], len(objects)))
    for mean, hits, some in zip(found_at, right.T, (right | wrong).T, strict=True):
        if not hits.any():
            continue
        found = drawn[hits]  # up to each of the K that are right: (K, R)
        _run(np.add, found)
        counted = shown[hits]
        if not some.all():
            counted -= _sums_before(drawn[~some])[np.cumsum(~some)[hits]]
        precision = found / np.maximum(counted, 1)
        _run(np.maximum, precision[::-1])
        found *= len(counts)
        found += of_draw.astype(np.int32)
        steps = reached.ravel().take(found)
        steps[1:] -= steps[:-1].copy()
        np.einsum("kr,kr->r", precision, steps, out=mean)
    return 100 / len(RECALLS) * found_at.T


def _sums_before(rows: np.ndarray) -> np.ndarray:
    """(N + 1, R) of (N, R): of those before each, and of all."""
    sums = np.concatenate([np.zeros_like(rows, shape=(1, rows.shape[1])), rows])
    _run(np.add, sums)
    return sums


def _run(function: np.ufunc, rows: np.ndarray) -> None:
    """`function.accumulate` over rows (N, R), in place."""
    if rows.shape[1] == 1:
        function.accumulate(rows, out=rows)
        return
    # NumPy's goes down column by column, at several times the cost.
    for before, row in pairwise(rows):
        function(before, row, out=row)
