"""A COCO json as flat arrays: the only place that walks its records.

Errors of structure (not an object, no categories, an image without a width) stop here with the first
offender. What is wrong inside well-formed records is left for `check` to find and list.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.segmentations import Segmentations, parse_segmentations


@dataclass(frozen=True)
class Records:
    """What a COCO json says, unchecked; N images and A annotations in the file's order.

    Attributes:
        path: the json file.
        categories: the category map.
        annotated: False for test-style files, which have no `annotations` key.
        image_ids: (N,) int64.
        sizes: (N, 2) int64, height and width.
        file_names: N paths, relative to the image folder.
        annotation_ids: (A,) int64.
        annotation_images: (A,) int64 image ids.
        annotation_categories: (A,) int64 category ids.
        boxes: (A, 4) float64 x, y, width, height in pixels; NaN where the json has no four numbers.
        areas: (A,) float64 pixels, the box's where the json has none.
        crowd: (A,) bool.
        segmentations: the outlines and masks.
    """

    path: Path
    categories: CategoryMap
    annotated: bool
    image_ids: np.ndarray
    sizes: np.ndarray
    file_names: list[str]
    annotation_ids: np.ndarray
    annotation_images: np.ndarray
    annotation_categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    segmentations: Segmentations


def read_records(path: Path) -> Records:
    """Read a COCO json.

    Raises:
        InputError: the file is missing, truncated or not of COCO's structure.
    """
    content = _load(path)
    where = str(path)
    images = _list_of_objects(content, "images", where)
    if not images:
        raise InputError(f"{where}: 'images' is empty; there is nothing to read")
    annotations = _list_of_objects(content, "annotations", where) if "annotations" in content else []
    boxes = _boxes([record.get("bbox") for record in annotations])
    return Records(
        path=path,
        categories=CategoryMap.from_records(content.get("categories"), where),
        annotated="annotations" in content,
        image_ids=_integers(images, "id", "images", where),
        sizes=np.stack([_integers(images, key, "images", where) for key in ("height", "width")], axis=1),
        file_names=_texts(images, "file_name", "images", where),
        annotation_ids=_integers(annotations, "id", "annotations", where),
        annotation_images=_integers(annotations, "image_id", "annotations", where),
        annotation_categories=_integers(annotations, "category_id", "annotations", where),
        boxes=boxes,
        areas=_areas([record.get("area") for record in annotations], boxes),
        crowd=np.array([bool(record.get("iscrowd")) for record in annotations], bool),
        segmentations=parse_segmentations([record.get("segmentation") for record in annotations]),
    )


def _load(path: Path) -> dict[str, Any]:
    # Millions of small objects make the cyclic collector run again and again for nothing.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise InputError(f"{path}: no such annotation file") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: not valid json, line {error.lineno} column {error.colno}: {error.msg};"
            " the file may be truncated"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    finally:
        if collecting:
            gc.enable()
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: a COCO file is an object with 'images', 'annotations' and 'categories', but this is a"
            f" {type(content).__name__}" + (" (detection results?)" if isinstance(content, list) else "")
        )
    return content


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
    _refuse(values, lambda value: type(value) is int and abs(value) < 2**63, key, group, "an integer", where)
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
    """(A, 4) float64, NaN where a value is not four numbers."""
    try:
        boxes = np.array(values, np.float64)
        if boxes.shape == (len(values), 4):
            return boxes
    except (ValueError, TypeError, OverflowError):
        pass
    return np.array([_four_numbers(value) for value in values], np.float64).reshape(-1, 4)


def _four_numbers(value: Any) -> list[float]:
    if isinstance(value, list) and len(value) == 4 and all(type(x) in (int, float) for x in value):
        return [float(x) for x in value]
    return [float("nan")] * 4


def _areas(values: list[Any], boxes: np.ndarray) -> np.ndarray:
    areas = np.array([value if type(value) in (int, float) else float("nan") for value in values], np.float64)
    return np.where(np.isfinite(areas), areas, boxes[:, 2] * boxes[:, 3])
