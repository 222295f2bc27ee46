"""What is wrong with a data set, found before anything is trained on it.

Harmless problems are dropped or clipped and listed; the others stop the run. An image that is missing, or
an id that means two things, would make results wrong in silence, so these stop. A bad outline costs the mask
and not the box. What comes out is what both training and scoring see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from srfgan_cli.data.findings import SHOWN, Fate, Problem, Report
from srfgan_cli.data.hints import annotation_hints, image_hints
from srfgan_cli.data.outlines import LONGEST, bounds, tame
from srfgan_cli.data.records import Records
from srfgan_cli.data.segmentations import Segmentations

Kind = tuple[str, Fate, np.ndarray]
"""What is wrong, what happens, and where: bool over the images or annotations."""

_AT_ONCE = 8192
_SLACK = 1.0  # pixels that a box may leave the image by rounding before it is worth a line
_THINNEST = 1e-3  # pixels; float32, in which training has them, leaves nothing of thinner boxes
_MOST_PIXELS = 2**31  # run lengths, and the evaluator's, are 32-bit numbers
_LARGEST_AREA = 1e10  # what the evaluator takes for the largest object; it ignores larger ones


@dataclass(frozen=True)
class Checked:
    """The outcome of a check.

    Attributes:
        report: what was found.
        keep: (A,) bool, the annotations that are used.
        boxes: (A, 4) float64 xyxy in pixels, clipped to the image; meaningful where `keep`.
        truth: (A, 4) float64 x, y, width, height as the json has them, which scores refer to as pycocotools' do;
            clipped where the box goes far outside the image. Meaningful where `keep`.
        areas: (A,) float64, the json's, or `truth`'s where that is no area. Meaningful where `keep`.
        labels: (A,) int64, 0-based; -1 for unknown categories.
        image_rows: (A,) int64, each annotation's row among the images; -1 for unknown ones.
        masks: the usable outlines and run lengths only.
        unusable: (A,) bool, of annotations of known images and categories: the box or the run-length mask has no
            area, or the box lies outside its image.
    """

    report: Report
    keep: np.ndarray
    boxes: np.ndarray
    truth: np.ndarray
    areas: np.ndarray
    labels: np.ndarray
    image_rows: np.ndarray
    masks: Segmentations
    unusable: np.ndarray


def check_records(records: Records, files: Sequence[Kind] = (), *, count_unusable: bool = False) -> Checked:
    """Find every problem that the json itself shows; no image is opened.

    Args:
        records: the parsed json.
        files: what is wrong with the images' files, (N,) each, if the folder was listed (`places`).
        count_unusable: keep boxes and masks of no area, and boxes outside the image, for scores as pycocotools'.
    """
    nowhere: Fate = "counted as missed" if count_unusable else "dropped"
    image_rows = _rows_of(records.annotation_images, records.image_ids)
    known = image_rows >= 0
    sizes = np.where(known[:, None], records.sizes[image_rows.clip(min=0)], np.iinfo(np.int32).max)
    labels = records.categories.labels(records.annotation_categories)
    boxes, truth, box_kinds = _boxes(records.boxes, sizes, nowhere)
    blank = records.segmentations.blank_runs()
    masks, mask_kinds = _mask_kinds(records.segmentations, known, sizes, blank, count_unusable)
    areas, odd_areas = _areas(records, truth)
    kinds: list[Kind] = [
        ("duplicate annotation id", "stops", _repeated(records.annotation_ids, records.places)),
        ("unknown category id", "stops", labels < 0),
        ("unknown image id", "dropped", ~known),
        *box_kinds,
        *mask_kinds,
        ("area is no number from 0 to 1e10", "the box's area", odd_areas),
        ("iscrowd is neither 0 nor 1", "read as 0", records.odd_crowd & ~records.crowd),
        ("iscrowd is neither 0 nor 1", "read as 1", records.odd_crowd & records.crowd),
    ]
    dropped = [~known, *(found for _, fate, found in box_kinds if fate == "dropped")]
    leaves = np.any([found for kind, _, found in box_kinds if kind in _OUTSIDE], axis=0)
    kinds += [(kind, "used as it is", found) for kind, found in annotation_hints(records, sizes, leaves)]

    problems = [
        _problem(*kind, lambda row: describe_image(records, row)) for kind in _image_kinds(records, files)
    ]
    problems += [
        _problem(*kind, lambda row: _describe_annotation(records, image_rows, row), records.places)
        for kind in kinds
    ]
    report = Report(
        records.path, len(records.image_ids), len(records.annotation_ids), (), layout=records.layout
    )
    report = report.extended([*records.problems, *(problem for problem in problems if problem.count)])
    keep = ~np.any([*dropped, labels < 0], axis=0)
    unusable = np.any([blank, *(found for kind, _, found in box_kinds if kind in _NOWHERE)], axis=0)
    unusable &= known & (labels >= 0)
    return Checked(report, keep, boxes, truth, areas, labels, image_rows, masks, unusable)


def _image_kinds(records: Records, files: Sequence[Kind]) -> list[Kind]:
    sides = records.sizes
    too_large = sides.astype(np.float64).prod(axis=1) >= _MOST_PIXELS
    for _, _, found in files:
        too_large = too_large & ~found  # the files' own limit is lower, and said already
    return [
        ("duplicate image id", "stops", _repeated(records.image_ids)),
        ("image size below one pixel", "stops", sides.min(axis=1) < 1),
        ("image of more than 2^31 pixels", "stops", too_large),
        ("image of a single pixel", "dropped", (sides == 1).all(axis=1)),
        *((kind, "used as it is", found) for kind, found in image_hints(records)),
        *files,
    ]


def _mask_kinds(
    given: Segmentations, known: np.ndarray, sizes: np.ndarray, blank: np.ndarray, keep_blank: bool
) -> tuple[Segmentations, list[Kind]]:
    """The usable masks, and what was wrong with the others."""
    wrong = known & given.wrong_runs(sizes)
    masks, far, long = tame(given, sizes)
    unusable = wrong if keep_blank else wrong | blank
    masks = masks.only(np.ones(len(masks.part_first) - 1, bool), ~unusable)
    left = masks.has_mask
    nothing = ~given.has_mask & ~given.malformed & ~given.bad_polygon
    polygons: list[Kind] = [
        ("polygon with fewer than 3 points, or not all finite numbers", "dropped", given.bad_polygon),
        ("polygon far outside the image", "clipped", far),
        (f"polygon with an outline longer than {LONGEST} pixels", "dropped", long),
    ]
    return masks, [
        ("segmentation is neither polygons nor RLE", "boxes only", given.malformed),
        # An outline may lose one polygon and keep others.
        *((kind, fate, found & left) for kind, fate, found in polygons),
        *((kind, "boxes only", found & ~left) for kind, _, found in polygons),
        ("RLE of the wrong size", "boxes only", wrong),
        ("mask without a pixel", "counted as missed" if keep_blank else "boxes only", blank),
        ("no mask", "boxes only", nothing & bool(left.any())),
    ]


_OUTSIDE = ("box outside the image", "box partly outside the image")
_NO_AREA = "box of zero or negative size"
_NOWHERE = (_NO_AREA, _OUTSIDE[0])


def _boxes(xywh: np.ndarray, sizes: np.ndarray, nowhere: Fate) -> tuple[np.ndarray, np.ndarray, list[Kind]]:
    """`_box_kinds` and `_truth_boxes`, of some thousands at a time: what they compute stays in a processor's cache."""
    parts = [slice(start, start + _AT_ONCE) for start in range(0, max(len(xywh), 1), _AT_ONCE)]
    found = [_box_kinds(xywh[part], sizes[part], nowhere) for part in parts]
    clipped = [boxes for boxes, _ in found]
    truth = [_truth_boxes(xywh[part], boxes, sizes[part]) for part, boxes in zip(parts, clipped, strict=True)]
    kinds = [
        (each[0][0], each[0][1], np.concatenate([where for _, _, where in each]))
        for each in zip(*(kinds for _, kinds in found), strict=True)
    ]
    return np.concatenate(clipped), np.concatenate(truth), kinds


def _box_kinds(xywh: np.ndarray, sizes: np.ndarray, nowhere: Fate) -> tuple[np.ndarray, list[Kind]]:
    """Boxes as xyxy clipped to their images, and what was wrong with them; `nowhere` befalls those without any area."""
    finite = np.isfinite(xywh).all(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        clipped = np.clip(corners, 0, sizes[:, [1, 0, 1, 0]])
        over = (np.abs(clipped - corners) > _SLACK).any(axis=1)
    inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    thin = inside & (clipped[:, 2:] - clipped[:, :2] < _THINNEST).any(axis=1)
    positive = (xywh[:, 2:] > 0).all(axis=1) & ~thin
    outside, partly = _OUTSIDE
    return clipped, [
        ("box with NaN, infinite or missing numbers", "dropped", ~finite),
        (_NO_AREA, nowhere, finite & ~positive),
        (outside, nowhere, finite & positive & ~inside),
        (partly, "clipped", finite & positive & inside & over),
    ]


def _truth_boxes(xywh: np.ndarray, clipped: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes as the json has them, xywh, but for those far outside their image: of those, the clipped ones."""
    lowest, highest = bounds(sizes)
    with np.errstate(over="ignore", invalid="ignore"):
        far = ((xywh[:, :2] < lowest) | (xywh[:, :2] + xywh[:, 2:] > highest)).any(axis=1)
        cut = np.concatenate([clipped[:, :2], clipped[:, 2:] - clipped[:, :2]], axis=1)
    return np.where(far[:, None], cut, xywh)


def _areas(records: Records, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas that size an object small, medium or large, and which of the json's are none."""
    good = (records.areas >= 0) & (records.areas <= _LARGEST_AREA)
    with np.errstate(over="ignore"):
        of_boxes = boxes[:, 2] * boxes[:, 3]
    return np.where(good, records.areas, of_boxes), records.area_stated & ~good


def _rows_of(wanted: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The row of each wanted id among `ids` (N >= 1,); -1 where it is not there."""
    order = np.argsort(ids, kind="stable")
    place = np.searchsorted(ids[order], wanted).clip(max=len(ids) - 1)
    rows = order[place]
    return np.where(ids[rows] == wanted, rows, -1)


def _repeated(ids: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
    """Whether an id was there before, in their order or that of their places; (N,) bool."""
    if places is not None:
        in_order = np.empty_like(ids)
        in_order[places] = ids
        repeated: np.ndarray = _repeated(in_order)[places]
        return repeated
    _, first = np.unique(ids, return_index=True)
    again = np.ones(len(ids), bool)
    again[first] = False
    return again


def _problem(
    kind: str, fate: Fate, found: np.ndarray, describe: Callable[[int], str], places: np.ndarray | None = None
) -> Problem:
    rows = np.flatnonzero(found)
    first = rows if places is None else rows[np.argsort(places[rows])]
    return Problem(kind, fate, len(rows), tuple(describe(int(row)) for row in first[:SHOWN]))


def describe_image(records: Records, row: int) -> str:
    """How messages name an image."""
    return f"image {records.image_ids[row]} ({records.file_names[row]})"


def _describe_annotation(records: Records, image_rows: np.ndarray, row: int) -> str:
    image = int(image_rows[row])
    file = f", {records.file_names[image]}" if image >= 0 else ""
    box = ", ".join(f"{value:g}" for value in records.boxes[row])
    if records.lines is not None:
        place = f"{records.lines.files[image]}:{records.lines.of[row]}"
        return (
            f"{place} (image {image + 1}{file}, category {records.annotation_categories[row]}, box [{box}])"
        )
    return (
        f"annotation {records.annotation_ids[row]} (image {records.annotation_images[row]}{file},"
        f" category {records.annotation_categories[row]}, box [{box}])"
    )
