"""Arrays of arrays as one flat array and its offsets: no Python object per row."""

from __future__ import annotations

import numpy as np


def offsets(lengths: np.ndarray) -> np.ndarray:
    """Where each row begins in the flat array, and where the last one ends.

    Args:
        lengths: (N,) integers, the length of every row.

    Returns:
        (N + 1,) int64, starting with 0.
    """
    first = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=first[1:])
    return first


def take(flat: np.ndarray, first: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The given rows, in the given order, as a flat array and its offsets: the given ones where nothing changes.

    Args:
        flat: (V, ...) all rows one after the other.
        first: (N + 1,) int64 offsets of the rows.
        rows: (M,) int64 indices of the wanted rows; repeats are allowed.
    """
    if len(rows) == len(first) - 1 and np.array_equal(rows, np.arange(len(rows))):
        return flat, first
    lengths = np.diff(first)[rows]
    new_first = offsets(lengths)
    shift = np.repeat(first[rows] - new_first[:-1], lengths)
    return flat[np.arange(new_first[-1]) + shift], new_first


def row_of(first: np.ndarray) -> np.ndarray:
    """The row that every element of the flat array belongs to, (V,) int64."""
    return np.repeat(np.arange(len(first) - 1), np.diff(first))


def row_sums(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The sum of every row of `values` (V,), exact for integers and booleans; (N,) int64, 0 for empty rows."""
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    sums: np.ndarray = total[first[1:]] - total[first[:-1]]
    return sums
