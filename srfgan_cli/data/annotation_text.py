"""Boxes and outlines of many annotations as flat arrays, from their json texts: no number is ever a Python object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from srfgan_cli.data.columns import boxes
from srfgan_cli.data.number_text import LEAD, read_numbers
from srfgan_cli.data.segmentations import Segmentations, flatten, joined, parse_segmentations

_AT_ONCE = 2000
"""Annotations whose texts and arrays stay in a processor's cache."""
_OUTLINES = 2
"""How deep a polygon's list is in a `segmentation`."""
_OPEN, _CLOSE = b"[]"
_NULL = b"null"

Texts = Sequence[msgspec.Raw]
"""Sound json texts of one value each, without whitespace around them."""


def read_boxes(texts: Texts) -> np.ndarray:
    """The `bbox` values of A annotations, (A, 4) float64; NaN where there are no four numbers.

    Raises:
        msgspec.ValidationError: a number that no float64 holds.
        UnicodeDecodeError: a text that is not UTF-8.
    """
    return np.concatenate([_boxes(some) for some in _in_parts(texts)])


def read_segmentations(texts: Texts) -> Segmentations:
    """The `segmentation` values of A annotations, as `parse_segmentations` has them; errors as for `read_boxes`."""
    return joined(_segmentations(some) for some in _in_parts(texts))


def _in_parts(texts: Texts) -> Iterator[Texts]:
    return (texts[start : start + _AT_ONCE] for start in range(0, max(len(texts), 1), _AT_ONCE))


def _boxes(texts: Texts) -> np.ndarray:
    text, characters, ends = _as_one(texts)
    found = read_numbers(text)
    if found is not None and len(found[0]) == 4 * len(texts):
        values, first = found[0].reshape(-1, 4), found[1].reshape(-1, 4)
        each = (first[:, 0] > ends[:-1]) & (first[:, 3] < ends[1:]) & (characters[ends[:-1] + 1] == _OPEN)
        if each.all() and text.count(_OPEN) == len(texts):
            return values
    return boxes(_decoded(texts))


def _segmentations(texts: Texts) -> Segmentations:
    text, characters, ends = _as_one(texts)
    begin = characters[ends[:-1] + 1]
    nulls = ends[:-1][begin == _NULL[0]] + 1
    characters[nulls[:, None] + np.arange(len(_NULL))] = ord(" ")
    others = np.flatnonzero((begin != _OPEN) & (begin != _NULL[0]))
    values = _decoded([texts[row] for row in others.tolist()])
    for start, end in zip((ends[others] + 1).tolist(), ends[others + 1].tolist(), strict=True):
        text[start:end] = b" " * (end - start)
    found = _outlines(text, characters, ends)
    if found is None:
        return parse_segmentations(_decoded(texts))
    return flatten(dict(zip(others.tolist(), values, strict=True)), *found)


def _as_one(texts: Texts) -> tuple[bytearray, np.ndarray, np.ndarray]:
    """All texts as one, its bytes, and A + 1 places of zero bytes, which no json has: before each and at the end."""
    text = bytearray(b"\0").join([b" " * LEAD, *texts, b""])
    characters = np.frombuffer(text, np.uint8)
    return text, characters, np.flatnonzero(characters == 0)


def _decoded(texts: Texts) -> list[Any]:
    values: list[Any] = msgspec.json.decode(b"[" + b",".join(texts) + b"]")
    return values


def _outlines(
    text: bytearray, characters: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """What `flatten` takes of lists of polygons, each after one of `ends`; None where one is something else."""
    numbers = read_numbers(text)
    if numbers is None:
        return None
    values, first = numbers
    brackets = np.flatnonzero((characters == _OPEN) | (characters == _CLOSE))
    opening = characters[brackets] == _OPEN
    depth = np.cumsum(np.where(opening, 1, -1))
    polygons = np.flatnonzero(opening & (depth == _OUTLINES))
    # In a list of numbers, the next bracket closes it.
    lengths = np.searchsorted(first, brackets[polygons + 1]) - np.searchsorted(first, brackets[polygons])
    if depth.max(initial=0) > _OUTLINES or lengths.sum() != len(values):
        return None
    counts = np.diff(np.searchsorted(brackets[polygons], ends))
    return values, lengths, counts
