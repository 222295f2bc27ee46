"""What each detection is at each of COCO's IoUs where some objects count, and AP from that, of images drawn at will."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    image: np.ndarray
    label: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    truth_image: np.ndarray
    truth_label: np.ndarray

    def ap(self, times: np.ndarray) -> np.ndarray:
        """(R,) AP in percent, over IoUs and classes with objects, where each image is there so often; NaN without any.

        Args:
            times: (R, I) int32 of R draws of the I images.
        """
        total, classes = np.zeros(len(times)), np.zeros(len(times))
        for label in np.unique(self.truth_label):
            objects = times[:, self.truth_image[self.truth_label == label]].sum(axis=1)
            rows = np.flatnonzero(self.label == label)
            of_class = _class_ap(times, self.image[rows], self.right[rows], self.wrong[rows], objects)
            total += np.where(objects > 0, of_class, 0)
            classes += objects > 0
        mean: np.ndarray = np.divide(total, classes, out=np.full(len(times), np.nan), where=classes > 0)
        return mean


def _class_ap(
    times: np.ndarray, image: np.ndarray, right: np.ndarray, wrong: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """(R,) mean over IoUs of one class's AP, which has so many `objects` (R,) in each draw."""
    # Most detections are wrong at every IoU, and counted once; a column of zeros stands before them.
    always = np.logical_and.reduce(wrong, axis=1)
    false = np.zeros((len(times), int(always.sum()) + 1), np.int32)
    np.cumsum(times[:, image[always]], axis=1, out=false[:, 1:])
    before = np.cumsum(always)  # of each detection, how many of those stand before it
    # Of RECALLS, those that so many found objects reach; (R, objects + 1).
    recalls = np.arange(objects.max(initial=0) + 1) / np.maximum(objects, 1)[:, None]
    reached = np.searchsorted(RECALLS, recalls, side="right")
    total = np.zeros(len(times))
    for hits, misses in zip(right.T, (wrong & ~always[:, None]).T, strict=True):
        rows = np.flatnonzero(hits | misses)
        counted = np.cumsum(times[:, image[rows]], axis=1, dtype=np.int32)[:, hits[rows]]
        hit = np.flatnonzero(hits)
        found = np.cumsum(times[:, image[hit]], axis=1, dtype=np.int32)
        total += _average_precision(found, counted + false[:, before[hit]], reached)
    mean: np.ndarray = total / right.shape[1]
    return mean


def _average_precision(found: np.ndarray, shown: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """(R,) in percent, from how many objects are found and detections shown up to each that is right, (R, K) each."""
    precision = np.divide(found, shown, out=np.zeros(found.shape), where=shown > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    steps = np.take_along_axis(reached, found, axis=1)
    steps[:, 1:] -= steps[:, :-1].copy()
    mean: np.ndarray = 100 * np.einsum("rk,rk->r", envelope, steps) / len(RECALLS)
    return mean
