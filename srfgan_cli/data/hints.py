"""What each annotation may pass and the whole data set still shows: a mistake made in writing it."""

from __future__ import annotations

import posixpath
from collections import Counter

import numpy as np

from srfgan_cli.data.records import Records

Hint = tuple[str, np.ndarray]
"""What it looks like, and where: bool over the images or annotations."""

_MOST = 0.5
_NEARLY_ALL = 0.9


def image_hints(records: Records) -> list[Hint]:
    """Hints over the images."""
    names = records.file_names
    if len(set(names)) == len(names) and not any("/" in name for name in names):
        return []
    names = [posixpath.normpath(name) for name in names]
    times = Counter(names)
    shared = np.array([times[name] > 1 for name in names], bool)
    return [("one file under several image ids, each with a part of its objects", shared)]


def annotation_hints(records: Records, sizes: np.ndarray, leaves: np.ndarray) -> list[Hint]:
    """Hints over the annotations.

    Args:
        records: the parsed json.
        sizes: (A, 2) height and width of each annotation's image.
        leaves: (A,) bool, the box is partly or wholly outside its image.
    """
    if not len(records.boxes):
        return []
    hints = [
        ("every annotation is a crowd region (iscrowd 1): no object to train on or to find", records.crowd)
    ] * bool(records.crowd.all())
    same = np.isin(records.annotation_categories, records.categories.of_shared_names())
    if same.any():
        hints.append(
            ("of a class that another has the name of: scored apart, but told apart by no name", same)
        )
    finite = np.isfinite(records.boxes).all(axis=1)
    boxes = records.boxes if finite.all() else records.boxes[finite]
    if len(boxes) and (boxes >= 0).all() and (boxes <= 1).all() and (sizes.min(axis=1) > 2).all():
        hints.append(("every box lies within 0..1: coordinates relative to the image's size?", finite))
    if leaves.sum() > _MOST * len(boxes) and _as_corners(boxes, sizes[finite]).mean() > _NEARLY_ALL:
        hints.append(
            (
                "most boxes leave the image, but not as [x1, y1, x2, y2]; [x, y, width, height] is right",
                leaves,
            )
        )
    return hints


def _as_corners(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which boxes would be in their image of (A, 2) height and width, were they x1, y1, x2, y2; (A,) bool."""
    ordered, within = boxes[:, 2:] > boxes[:, :2], boxes[:, 2:] <= sizes[:, ::-1] + 1
    fits: np.ndarray = np.all(ordered & within, axis=1)
    return fits
