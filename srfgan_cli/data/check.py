"""What is wrong with a data set, found before anything is trained on it.

Harmless problems are dropped or clipped and listed; the others stop the run. An image that is missing, or
an id that means two things, would make results wrong in silence, so these stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from srfgan_cli.data.records import Records
from srfgan_cli.data.report import SHOWN, Fate, Problem, Report

Kind = tuple[str, Fate, np.ndarray]
"""What is wrong, what happens, and where: bool over the images or annotations."""

_SLACK = 1.0  # pixels that a box may leave the image by rounding before it is worth a line
_BAD_POLYGON = "polygon with fewer than 3 points, or not finite"


@dataclass(frozen=True)
class Checked:
    """The outcome of a check.

    Attributes:
        report: what was found.
        keep: (A,) bool, the annotations that are used.
        boxes: (A, 4) float64 xyxy in pixels, clipped to the image; meaningful where `keep`.
        labels: (A,) int64, 0-based; -1 for unknown categories.
        image_rows: (A,) int64, each annotation's row among the images; -1 for unknown ones.
    """

    report: Report
    keep: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    image_rows: np.ndarray


def check_records(records: Records, files: Sequence[Kind] = ()) -> Checked:
    """Find every problem that the json itself shows; no image is opened.

    Args:
        records: the parsed json.
        files: what is wrong with the images' files, (N,) each, if the folder was listed (`places`).
    """
    image_rows = _rows_of(records.annotation_images, records.image_ids)
    known = image_rows >= 0
    sizes = np.where(known[:, None], records.sizes[image_rows.clip(min=0)], np.iinfo(np.int32).max)
    labels = records.categories.labels(records.annotation_categories)
    boxes, box_kinds = _box_kinds(records.boxes, sizes)
    kinds: list[Kind] = [
        ("duplicate annotation id", "stops", _repeated(records.annotation_ids)),
        ("unknown category id", "stops", labels < 0),
        ("unknown image id", "dropped", ~known),
        *box_kinds,
        *_mask_kinds(records, known, sizes),
    ]
    # An outline may lose one polygon and keep others: that kind alone does not drop its annotation.
    masks = records.segmentations
    dropped = [found for kind, fate, found in kinds if fate == "dropped" and kind != _BAD_POLYGON]
    keep = ~np.any([*dropped, masks.bad_polygon & ~masks.has_mask, labels < 0], axis=0)

    problems = [
        _problem(*kind, lambda row: describe_image(records, row)) for kind in _image_kinds(records, files)
    ]
    problems += [
        _problem(*kind, lambda row: _describe_annotation(records, image_rows, row)) for kind in kinds
    ]
    report = Report(records.path, len(records.image_ids), len(records.annotation_ids), ())
    report = report.extended([problem for problem in problems if problem.count])
    return Checked(report, keep, boxes, labels, image_rows)


def _image_kinds(records: Records, files: Sequence[Kind]) -> list[Kind]:
    sides = records.sizes
    return [
        ("duplicate image id", "stops", _repeated(records.image_ids)),
        ("image size below one pixel", "stops", sides.min(axis=1) < 1),
        ("image of a single pixel", "dropped", (sides == 1).all(axis=1)),
        *files,
    ]


def _mask_kinds(records: Records, known: np.ndarray, sizes: np.ndarray) -> list[Kind]:
    masks = records.segmentations
    nothing = ~masks.has_mask & ~masks.malformed & ~masks.bad_polygon
    return [
        ("segmentation is neither polygons nor RLE", "dropped", masks.malformed),
        (_BAD_POLYGON, "dropped", masks.bad_polygon),
        ("RLE of the wrong size", "dropped", known & masks.wrong_runs(sizes)),
        ("mask without a pixel", "dropped", masks.blank_runs()),
        ("no mask", "boxes only", nothing & bool(masks.has_mask.any())),
    ]


def _box_kinds(xywh: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, list[Kind]]:
    """Boxes as xyxy clipped to their images, and what was wrong with them."""
    finite = np.isfinite(xywh).all(axis=1)
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    limits = sizes[:, [1, 0, 1, 0]]
    clipped = np.clip(corners, 0, limits)
    positive = (xywh[:, 2:] > 0).all(axis=1)
    inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    with np.errstate(invalid="ignore"):
        over = (np.abs(clipped - corners) > _SLACK).any(axis=1)
    usable = finite & positive & inside
    return clipped, [
        ("box with NaN, infinite or missing numbers", "dropped", ~finite),
        ("box of zero or negative size", "dropped", finite & ~positive),
        ("box outside the image", "dropped", finite & positive & ~inside),
        ("box partly outside the image", "clipped", usable & over),
    ]


def _rows_of(wanted: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The row of each wanted id among `ids` (N >= 1,); -1 where it is not there."""
    order = np.argsort(ids, kind="stable")
    place = np.searchsorted(ids[order], wanted).clip(max=len(ids) - 1)
    rows = order[place]
    return np.where(ids[rows] == wanted, rows, -1)


def _repeated(ids: np.ndarray) -> np.ndarray:
    """Whether an id was there before; (N,) bool."""
    _, first = np.unique(ids, return_index=True)
    again = np.ones(len(ids), bool)
    again[first] = False
    return again


def _problem(kind: str, fate: Fate, found: np.ndarray, describe: Callable[[int], str]) -> Problem:
    rows = np.flatnonzero(found)
    return Problem(kind, fate, len(rows), tuple(describe(int(row)) for row in rows[:SHOWN]))


def describe_image(records: Records, row: int) -> str:
    """How messages name an image."""
    return f"image {records.image_ids[row]} ({records.file_names[row]})"


def _describe_annotation(records: Records, image_rows: np.ndarray, row: int) -> str:
    image = int(image_rows[row])
    file = f", {records.file_names[image]}" if image >= 0 else ""
    box = ", ".join(f"{value:g}" for value in records.boxes[row])
    return (
        f"annotation {records.annotation_ids[row]} (image {records.annotation_images[row]}{file},"
        f" category {records.annotation_categories[row]}, box [{box}])"
    )
