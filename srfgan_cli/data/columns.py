"""The annotations of a data set as columns."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from srfgan_cli.data.segmentations import Segmentations


@dataclass(frozen=True)
class Annotations:
    """What A annotations say, unchecked.

    Attributes:
        annotation_ids: (A,) int64.
        annotation_images: (A,) int64 image ids.
        annotation_categories: (A,) int64 category ids.
        boxes: (A, 4) float64 x, y, width, height in pixels; NaN where the json has no four numbers.
        areas: (A,) float64 pixels; NaN where the json has no finite number.
        area_stated: (A,) bool, the json has an `area`, whatever it is.
        crowd: (A,) bool, `iscrowd` is a number but 0, or the text of one ("1", "true").
        odd_crowd: (A,) bool, `iscrowd` is there and neither 0 nor 1.
        segmentations: the outlines and masks.
    """

    annotation_ids: np.ndarray
    annotation_images: np.ndarray
    annotation_categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    area_stated: np.ndarray
    crowd: np.ndarray
    odd_crowd: np.ndarray
    segmentations: Segmentations


def boxes(values: list[Any]) -> np.ndarray:
    """(A, 4) float64, NaN where a value is not a list of four numbers."""
    if set(map(type, values)) <= {list} and set(map(len, values)) <= {4}:
        return numbers(list(chain.from_iterable(values))).reshape(-1, 4)
    nothing = [None] * 4
    return boxes([value if type(value) is list and len(value) == 4 else nothing for value in values])


def numbers(values: list[Any]) -> np.ndarray:
    """(A,) float64, NaN for what is not a number; texts are none, even of digits, and truth values neither."""
    if set(map(type, values)) <= {int, float}:
        try:
            return np.array(values, np.float64)
        except OverflowError:
            pass
    return np.array([_number(value) for value in values], np.float64)


def _number(value: Any) -> float:
    try:
        return float(value) if type(value) in (int, float) else float("nan")
    except OverflowError:
        return float("nan")
