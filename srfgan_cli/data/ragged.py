"""Arrays of arrays as one flat array and its offsets: no Python object per row."""

from __future__ import annotations

import numpy as np

_AT_ONCE = 4096
"""Rows whose places stay in a processor's cache."""


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
    shift = first[rows] - new_first[:-1]
    taken = np.empty((new_first[-1], *flat.shape[1:]), flat.dtype)
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        begin, end = new_first[[start, min(start + _AT_ONCE, len(rows))]].tolist()
        places = np.arange(begin, end) + np.repeat(shift[some], lengths[some])
        # The places are within: "clip" only spares the buffer that "raise" writes to first.
        np.take(flat, places, axis=0, out=taken[begin:end], mode="clip")
    return taken, new_first


def row_of(first: np.ndarray) -> np.ndarray:
    """The row that every element of the flat array belongs to, (V,) int64."""
    return np.repeat(np.arange(len(first) - 1), np.diff(first))


def row_sums(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The sum of every row of `values` (V,), exact for integers and booleans; (N,) int64, 0 for empty rows."""
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    sums: np.ndarray = total[first[1:]] - total[first[:-1]]
    return sums
