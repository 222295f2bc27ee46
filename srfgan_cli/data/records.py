"""A COCO json as flat arrays: the only place that walks its records.

Errors of structure (not an object, no categories, an image without a width) stop here with the first
offender. What is wrong inside well-formed records is left for `check` to find and list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from srfgan.models.errors import InputError
from srfgan_cli.data.annotation_text import read_boxes, read_segmentations
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.columns import Annotations, boxes, numbers
from srfgan_cli.data.findings import Problem
from srfgan_cli.data.json_file import UNREADABLE, check_utf8, collector_paused, parse_json, read_file
from srfgan_cli.data.segmentations import parse_segmentations

_ABSENT = object()
_CROWD = 0
"""An `iscrowd` that is not there."""
_NULL = msgspec.Raw(b"null")
_IDS = {"annotation_ids": "id", "annotation_images": "image_id", "annotation_categories": "category_id"}
"""Keys of the json by the names of columns."""


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
    """What a COCO json, or another layout's files, say, unchecked: N images, in the files' order, and A annotations.

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
        places: (A,) int64, where the annotations stand in the file, if they are by the ids of their images instead.
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
    places: np.ndarray | None = None


class _Annotation(msgspec.Struct, gc=False):
    """What is used of an annotation; what may be odd about it is of any type, or still text."""

    id: int
    image_id: int
    category_id: int
    bbox: msgspec.Raw = _NULL
    area: Any = _ABSENT
    iscrowd: Any = _CROWD
    segmentation: msgspec.Raw = _NULL


class _Document(msgspec.Struct, gc=False):
    """What is used of a json."""

    images: Any = None
    categories: Any = None
    annotations: list[_Annotation] | msgspec.UnsetType = msgspec.UNSET


_DECODER = msgspec.json.Decoder(_Document)


def read_records(path: Path) -> Records:
    """Read a COCO json.

    Raises:
        InputError: the file is missing, truncated or not of COCO's structure.
    """
    return parse_records(read_file(path, "annotation file"), path)


def parse_records(content: bytes, path: Path) -> Records:
    """The records of a COCO json's bytes; `path` is for messages, errors as for `read_records`."""
    with collector_paused():
        try:
            return _read_quickly(content, path)
        except (InputError, OverflowError, *UNREADABLE):
            # Again, to say the line and the record of what is wrong, or to take NaN.
            return _read_any(content, path)


def _read_quickly(content: bytes, path: Path) -> Records:
    """The records of a json of the right structure, whose boxes and outlines are never Python objects."""
    check_utf8(content)
    document, where = _DECODER.decode(content), str(path)
    heading = _heading(
        {"categories": document.categories}, _images({"images": document.images}, where), where
    )
    annotations, annotated = document.annotations, True
    if isinstance(annotations, msgspec.UnsetType):
        annotations, annotated = [], False
    count = len(annotations)
    columns = {
        **{
            name: np.fromiter(map(attrgetter(key), annotations), np.int64, count)
            for name, key in _IDS.items()
        },
        **_areas_and_crowds([one.area for one in annotations], [one.iscrowd for one in annotations]),
        "boxes": read_boxes([one.bbox for one in annotations]),
    }
    order = _by_image(columns)
    texts = np.fromiter((one.segmentation for one in annotations), object, count)[order].tolist()
    del document, annotations
    return Records(
        path=path,
        annotated=annotated,
        **heading,
        **{name: column[order] for name, column in columns.items()},
        segmentations=read_segmentations(texts),
        places=order,
    )


def _read_any(content: bytes, path: Path) -> Records:
    document, where = _document(content, path), str(path)
    images = _images(document, where)
    annotated = "annotations" in document
    annotations = _list_of_objects(document, "annotations", where) if annotated else []
    heading = _heading(document, images, where)

    def values(key: str, otherwise: Any = None) -> list[Any]:
        return [annotation.get(key, otherwise) for annotation in annotations]

    columns = {
        **{name: _integers(values(key), key, "annotations", where) for name, key in _IDS.items()},
        **_areas_and_crowds(values("area", _ABSENT), values("iscrowd", _CROWD)),
        "boxes": boxes(values("bbox")),
    }
    order = _by_image(columns)
    outlines = values("segmentation")
    return Records(
        path=path,
        annotated=annotated,
        **heading,
        **{name: column[order] for name, column in columns.items()},
        segmentations=parse_segmentations([outlines[row] for row in order.tolist()]),
        places=order,
    )


def _by_image(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Each image's annotations together, as an index has them: so it need not move their outlines."""
    return np.argsort(columns["annotation_images"], kind="stable")


def _images(document: dict[str, Any], where: str) -> list[dict[str, Any]]:
    images = _list_of_objects(document, "images", where)
    if not images:
        raise InputError(f"{where}: 'images' is empty; there is nothing to read")
    return images


def _heading(document: dict[str, Any], images: list[dict[str, Any]], where: str) -> dict[str, Any]:
    """What `Records` has of classes and images."""
    return {
        "categories": CategoryMap.from_records(document.get("categories"), where),
        "image_ids": _integers([image.get("id") for image in images], "id", "images", where),
        "sizes": np.stack(
            [
                _integers([image.get(key) for image in images], key, "images", where)
                for key in ("height", "width")
            ],
            axis=1,
        ),
        "file_names": _texts(images, "file_name", "images", where),
    }


def _areas_and_crowds(areas: list[Any], crowds: list[Any]) -> dict[str, np.ndarray]:
    found = numbers(areas)
    stated = ~np.isnan(found)
    for row in np.flatnonzero(~stated):
        stated[row] = areas[row] is not _ABSENT
    crowd, odd_crowd = _crowd(crowds)
    return {"areas": found, "area_stated": stated, "crowd": crowd, "odd_crowd": odd_crowd}


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


def _integers(values: list[Any], key: str, group: str, where: str) -> np.ndarray:
    if set(map(type, values)) <= {int}:
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


def _crowd(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Which annotations are crowd regions, and whose value is neither 0 nor 1; both (A,) bool."""
    if not set(map(type, values)) <= {int}:
        values = [_crowd_value(value) for value in values]
    found = numbers(values)
    return np.nan_to_num(found) != 0, (found != 0) & (found != 1)


def _crowd_value(value: Any) -> Any:
    """A truth value as its number; a text that says yes as 2, which is neither 0 nor 1; others as they are."""
    if type(value) is bool:
        return int(value)
    return 2 if type(value) is str and value.strip().lower() in ("1", "true") else value
