"""How closely objects stand.

An object is as crowded as its box's largest IoU with that of another object of its class in the image.
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

GROUPS = ("alone", "touching", "crowded")
"""Without overlap, with less than `CROWDED`, and with as much or more."""
CROWDED = 0.1
"""An IoU. It splits overlapping objects of COCO, and nuclei under a microscope, into parts that are large enough."""


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(A, B) IoU of boxes (A, 4) and others (B, 4), float64 x, y, width, height."""
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    return np.asarray(coco_mask.iou(boxes, others, [0] * len(others)))


def crowding(boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(G,) the largest IoU of each of one image's objects with another one of its class, 0..1.

    Args:
        boxes: (G, 4) float64 x, y, width, height.
        labels: (G,) int64.
    """
    apart = overlaps(boxes, boxes) * (labels[:, None] == labels[None])
    np.fill_diagonal(apart, 0)
    largest: np.ndarray = apart.max(axis=1, initial=0)
    return largest


def group_of(crowded: np.ndarray) -> np.ndarray:
    """The place in `GROUPS` of objects with so much `crowding`; int64."""
    return (crowded > 0).astype(np.int64) + (crowded >= CROWDED)
