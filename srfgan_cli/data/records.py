"""A COCO json as flat arrays: the only place that walks its records.

Errors of structure (not an object, no categories, an image without a width) stop here with the first
offender. What is wrong inside well-formed records is left for `check` to find and list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.columns import Annotations, joined_columns, sound_columns
from srfgan_cli.data.findings import Problem
from srfgan_cli.data.json_file import UNREADABLE, collector_paused, parse_json, read_file
from srfgan_cli.data.segmentations import parse_segmentations

_ABSENT = object()
_AT_ONCE = 10_000
"""Annotations that are Python objects at a time."""


@dataclass(frozen=True)
class Lines:
    """Where annotations stand, for messages, if each image has a label file.

    Attributes:
        files: N label files.
        of: (A,) int64, each annotation's line in its image's.
    """

    files: tuple[str, ...]
    of: np.ndarray


@dataclass(frozen=True)
class Records(Annotations):
    """What a COCO json, or another layout's files, say, unchecked: N images and A annotations, in the files' order.

    Attributes:
        path: the json file, or what has the annotations in another layout.
        categories: the category map.
        annotated: False for test-style files, which have no `annotations` key.
        image_ids: (N,) int64.
        sizes: (N, 2) int64, height and width.
        file_names: N paths, relative to the image folder.
        layout: where they are from.
        problems: what is wrong already in the files, apart from what the records show.
        lines: where the annotations stand in label files; None for a json.
    """

    path: Path
    categories: CategoryMap
    annotated: bool
    image_ids: np.ndarray
    sizes: np.ndarray
    file_names: list[str]
    layout: str = "COCO"
    problems: tuple[Problem, ...] = ()
    lines: Lines | None = None


def read_records(path: Path) -> Records:
    """Read a COCO json.

    Raises:
        InputError: the file is missing, truncated or not of COCO's structure.
    """
    content = read_file(path, "annotation file")
    with collector_paused():
        try:
            return _read_in_parts(content, path)
        except (InputError, *UNREADABLE):
            # In one piece, which says the line and the record of what is wrong, or takes NaN.
            return _read_whole(content, path)


def _read_in_parts(content: bytes, path: Path) -> Records:
    """A sound file's records, of which only some thousands are ever Python objects at a time."""
    raw = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    texts = msgspec.json.decode(raw.get("annotations", b"[]"), type=list[msgspec.Raw])
    document = {key: msgspec.json.decode(value) for key, value in raw.items() if key != "annotations"}
    where = str(path)
    images = _images(document, where)
    starts = range(0, max(len(texts), 1), _AT_ONCE)
    parts = [_part(texts[start : start + _AT_ONCE], where) for start in starts]
    return Records(
        path=path,
        annotated="annotations" in raw,
        **_heading(document, images, where),
        **vars(joined_columns(parts)),
    )


def _part(texts: list[msgspec.Raw], where: str) -> Annotations:
    text = b"[" + b",".join(texts) + b"]"
    try:
        return sound_columns(text)
    except msgspec.ValidationError:
        return _columns(msgspec.json.decode(text, type=list[dict[str, Any]]), where)


def _read_whole(content: bytes, path: Path) -> Records:
    document, where = _document(content, path), str(path)
    images = _images(document, where)
    annotated = "annotations" in document
    annotations = _list_of_objects(document, "annotations", where) if annotated else []
    heading = _heading(document, images, where)
    return Records(path=path, annotated=annotated, **heading, **vars(_columns(annotations, where)))


def _images(document: dict[str, Any], where: str) -> list[dict[str, Any]]:
    images = _list_of_objects(document, "images", where)
    if not images:
        raise InputError(f"{where}: 'images' is empty; there is nothing to read")
    return images


def _heading(document: dict[str, Any], images: list[dict[str, Any]], where: str) -> dict[str, Any]:
    """What `Records` has of classes and images."""
    return {
        "categories": CategoryMap.from_records(document.get("categories"), where),
        "image_ids": _integers(images, "id", "images", where),
        "sizes": np.stack([_integers(images, key, "images", where) for key in ("height", "width")], axis=1),
        "file_names": _texts(images, "file_name", "images", where),
    }


def _columns(annotations: list[dict[str, Any]], where: str) -> Annotations:
    areas = [record.get("area", _ABSENT) for record in annotations]
    crowd, odd_crowd = _crowd([record.get("iscrowd", 0) for record in annotations])
    return Annotations(
        annotation_ids=_integers(annotations, "id", "annotations", where),
        annotation_images=_integers(annotations, "image_id", "annotations", where),
        annotation_categories=_integers(annotations, "category_id", "annotations", where),
        boxes=_boxes([record.get("bbox") for record in annotations]),
        areas=_numbers(areas),
        area_stated=np.array([value is not _ABSENT for value in areas], bool),
        crowd=crowd,
        odd_crowd=odd_crowd,
        segmentations=parse_segmentations([record.get("segmentation") for record in annotations]),
    )


def _document(content: bytes, path: Path) -> dict[str, Any]:
    document = parse_json(content, path)
    if not isinstance(document, dict):
        raise InputError(
            f"{path}: a COCO file is an object with 'images', 'annotations' and 'categories', but this is a"
            f" {type(document).__name__}" + (" (detection results?)" if isinstance(document, list) else "")
        )
    return document


def _list_of_objects(content: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    records = content.get(key)
    if not isinstance(records, list):
        found = ", ".join(repr(name) for name in content) or "none"
        raise InputError(f"{where}: '{key}' must be a list; keys found: {found}")
    for position, record in enumerate(records):
        if not isinstance(record, dict):
            raise InputError(f"{where}: {key}[{position}] must be an object, got {record!r:.80}")
    return records


def _integers(records: list[dict[str, Any]], key: str, group: str, where: str) -> np.ndarray:
    values = [record.get(key) for record in records]
    if all(type(value) is int for value in values):
        try:
            return np.array(values, np.int64)
        except OverflowError:
            pass
    _refuse(
        values,
        lambda value: type(value) is int and -(2**63) <= value < 2**63,
        key,
        group,
        "an integer",
        where,
    )
    raise AssertionError("some value is not an integer")


def _texts(records: list[dict[str, Any]], key: str, group: str, where: str) -> list[str]:
    values = [record.get(key) for record in records]
    _refuse(values, lambda value: isinstance(value, str) and value != "", key, group, "a text", where)
    return [str(value) for value in values]


def _refuse(
    values: list[Any], good: Callable[[Any], bool], key: str, group: str, wanted: str, where: str
) -> None:
    for position, value in enumerate(values):
        if not good(value):
            got = "there is none" if value is None else f"got {value!r:.80}"
            raise InputError(f"{where}: {group}[{position}] needs '{key}' to be {wanted}, {got}")


def _boxes(values: list[Any]) -> np.ndarray:
    """(A, 4) float64, NaN where a value is not a list of four numbers."""
    if set(map(type, values)) <= {list} and set(map(len, values)) <= {4}:
        return _numbers(list(chain.from_iterable(values))).reshape(-1, 4)
    nothing = [None] * 4
    return _boxes([value if type(value) is list and len(value) == 4 else nothing for value in values])


def _crowd(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Which annotations are crowd regions, and whose value is neither 0 nor 1; both (A,) bool."""
    if not set(map(type, values)) <= {int}:
        values = [_crowd_value(value) for value in values]
    numbers = _numbers(values)
    return np.nan_to_num(numbers) != 0, (numbers != 0) & (numbers != 1)


def _crowd_value(value: Any) -> Any:
    """A truth value as its number; a text that says yes as 2, which is neither 0 nor 1; others as they are."""
    if type(value) is bool:
        return int(value)
    return 2 if type(value) is str and value.strip().lower() in ("1", "true") else value


def _numbers(values: list[Any]) -> np.ndarray:
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
