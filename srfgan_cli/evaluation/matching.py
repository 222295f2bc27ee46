"""Which detection is which object, as COCO decides it."""

from __future__ import annotations

import numpy as np


def choose(overlaps: np.ndarray, least: float) -> np.ndarray:
    """What each detection is: the best one is the first to choose, of the objects that are left, what it overlaps most.

    Args:
        overlaps: (D, G) IoU of detections, best first, with objects; 0 where their classes differ. Not changed.
        least: IoU from which a detection is an object.

    Returns:
        (D,) int64, the object of each, each once; -1 for none.
    """
    chosen = np.full(len(overlaps), -1)
    left = overlaps.copy()
    if left.shape[1]:
        for row in range(len(left)):
            best = int(left[row].argmax())
            if left[row, best] >= least:
                chosen[row] = best
                left[:, best] = 0
    return chosen
