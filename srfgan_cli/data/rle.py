"""COCO run-length masks: many strings decoded at once, a mask cut out without decoding its image, and encoding.

A mask is a list of run lengths over the pixels in column-major order, background first. COCO stores it
either as that list or as a string of 6-bit characters (pycocotools, `rleToString`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from srfgan.models.instance_masks import MaskPatch
from srfgan_cli.data.ragged import offsets

_LONGEST_NUMBER = 12  # characters of 5 bits: more do not fit int64


def decode_strings(strings: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run lengths of compressed masks.

    Args:
        strings: the `counts` of N masks.

    Returns:
        runs: (R,) int64, the run lengths of all masks one after the other.
        first: (N + 1,) int64 offsets of the masks in `runs`.
        valid: (N,) bool, False for a string that no encoder writes (its runs mean nothing).
    """
    string_first = offsets(np.array([len(string) for string in strings], np.int64))
    codes = np.frombuffer(b"".join(strings), np.uint8).astype(np.int64) - 48
    last_code = string_first[1:][np.diff(string_first) > 0] - 1
    ends_number = codes & 32 == 0
    broken = (codes < 0) | (codes > 63)
    broken[last_code] |= ~ends_number[last_code]
    ends_number[last_code] = True

    raw, length = _numbers(codes, ends_number)
    broken[np.flatnonzero(ends_number)] |= length > _LONGEST_NUMBER
    numbers_before = np.concatenate([[0], np.cumsum(ends_number)])
    first = numbers_before[string_first]
    broken_before = np.concatenate([[0], np.cumsum(broken)])
    valid = broken_before[string_first[1:]] == broken_before[string_first[:-1]]
    return _undo_differences(raw, first), first, valid


def _numbers(codes: np.ndarray, ends_number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed numbers from their 5-bit digits, least significant first, and how many digits each has."""
    if not len(codes):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    end = np.flatnonzero(ends_number)
    start = np.concatenate([[0], end[:-1] + 1])
    length = end - start + 1
    digit = np.arange(len(codes)) - np.repeat(start, length)
    value = np.add.reduceat((codes & 31) << (5 * np.minimum(digit, _LONGEST_NUMBER)), start)
    negative = codes[end] & 16 != 0
    return value - (negative.astype(np.int64) << (5 * np.minimum(length, _LONGEST_NUMBER))), length


def _undo_differences(raw: np.ndarray, first: np.ndarray) -> np.ndarray:
    """From its fourth number on, a string holds each run's difference to the run two before it."""
    lengths = np.diff(first)
    position = np.arange(len(raw)) - np.repeat(first[:-1], lengths)
    runs = raw.copy()
    for chain in (position % 2 == 1, (position % 2 == 0) & (position > 0)):
        total = np.concatenate([[0], np.cumsum(np.where(chain, raw, 0))])
        within = total[1:] - np.repeat(total[first[:-1]], lengths)
        runs[chain] = within[chain]
    return runs


def cut_out(runs: np.ndarray, height: int) -> MaskPatch:
    """The mask cropped to its own pixels; only the columns that it touches are ever filled.

    Args:
        runs: (R,) run lengths over an image of `height` rows; their sum is the image's pixel count.
        height: rows of the image.

    Returns:
        The patch with its span in the image's pixels; an empty patch for a mask without pixels.
    """
    ends = np.cumsum(runs, dtype=np.int64)
    drawn = np.flatnonzero(runs[1::2]) * 2 + 1
    if not len(drawn):
        return MaskPatch(np.zeros((0, 0), np.uint8), np.zeros(4))
    left = int(ends[drawn[0] - 1]) // height
    right = (int(ends[drawn[-1]]) - 1) // height + 1
    # Cut the runs to the columns from left to right.
    bounds = np.concatenate([[0], ends]).clip(left * height, right * height)
    within = bounds[1:] - bounds[:-1]
    columns = np.repeat((np.arange(len(runs)) % 2).astype(np.uint8), within).reshape(right - left, height)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    pixels = np.ascontiguousarray(columns[:, top:bottom].T)
    at_border = (left == 0, top == 0, right * height == int(ends[-1]), bottom == height)
    return MaskPatch(pixels, np.array([left, top, right, bottom], np.float64), at_border)


def encode_mask(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed RLE of a mask that is given only where it is not empty.

    The same as pasting it into an empty image and encoding that, without touching the image's other pixels:
    with hundreds of small objects in a large image those are nearly all of the work.

    Args:
        mask: (h, w) bool, a window of the image's mask outside which nothing is set.
        corner: (x, y) of the window's upper left pixel.
        size: (H, W) of the image.

    Returns:
        {"size": [H, W], "counts": str}.
    """
    height, width = size
    steps = np.diff(mask.T.astype(np.int8), axis=1, prepend=0, append=0)
    columns, rows = np.nonzero(steps)
    # Where the mask changes, counted down the image's columns: begin and end of each run in turn.
    changes = (corner[0] + columns) * height + corner[1] + rows
    touching = np.flatnonzero(changes[1:-1:2] == changes[2::2])  # one column's end is the next one's begin
    changes = np.delete(changes, np.concatenate([2 * touching + 1, 2 * touching + 2]))
    runs = np.diff(changes, prepend=0, append=height * width)
    runs = runs[:-1] if runs[-1] == 0 else runs
    return compressed(runs, size)


def with_bytes(code: dict[str, Any]) -> dict[str, Any]:
    """A compressed RLE as pycocotools' own functions take it, its `counts` in bytes."""
    return {"size": code["size"], "counts": code["counts"].encode("ascii")}


def compressed(runs: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed RLE of run lengths over an image of this height and width: {"size": [H, W], "counts": str}."""
    height, width = size
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}
