"""Which detection is which object, as COCO decides it."""

from __future__ import annotations

import numpy as np


def choose(overlaps: np.ndarray, least: float) -> np.ndarray:
    """What each detection is: the best one is the first to choose, of the objects that are left, what it overlaps most.

    Of equals it chooses the last one, as COCO's evaluators do.

    Args:
        overlaps: (D, G) IoU of detections, best first, with objects; 0 where their classes differ. Not changed.
        least: IoU from which a detection is an object.

    Returns:
        (D,) int64, the object of each, each once; -1 for none.
    """
    chosen = np.full(len(overlaps), -1)
    left = overlaps[:, ::-1].copy()  # argmax: the first of equals
    objects = left.shape[1]
    if objects:
        for row in range(len(left)):
            best = int(left[row].argmax())
            if left[row, best] >= least:
                chosen[row] = objects - 1 - best
                left[:, best] = 0
    return chosen


def choose_where_some_count(
    overlaps: np.ndarray, counts: np.ndarray, crowd: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """What detections of one image and class are, at several IoUs and for several choices of the objects that count.

    An object that counts is chosen before one that does not, and of equals the last one. Crowd regions, which never
    count, are chosen any number of times.

    Args:
        overlaps: (D, G) IoU of detections, best first, with objects. Not changed.
        counts: (A, G) bool, for each choice.
        crowd: (G,) bool.
        least: (T,) IoUs from which a detection is an object.

    Returns:
        (D, A, T) int8: 1 for an object that counts, -1 for one that does not, 0 for none.
    """
    overlaps, counts, crowd = overlaps[:, ::-1], counts[:, ::-1], crowd[::-1]  # argmax: the first of equals
    choices, ious = np.ogrid[: len(counts), : len(least)]
    left = np.ones((len(counts), len(least), len(crowd)), bool)
    kind = np.zeros((len(overlaps), len(counts), len(least)), np.int8)
    for row in np.flatnonzero((overlaps >= least.min()).any(axis=1)):
        overlap = overlaps[row]
        possible = left & (overlap >= least[:, None])
        rank = np.where(counts, overlap, overlap - 2)[:, None]  # (A, 1, G)
        best = np.where(possible, rank, -3).argmax(axis=2)  # (A, T)
        is_one = possible[choices, ious, best]
        kind[row] = np.where(counts[choices, best], 1, -1) * is_one
        left[choices, ious, best] &= ~is_one | crowd[best]
    return kind
