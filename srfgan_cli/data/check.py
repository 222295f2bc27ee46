"""What is wrong with a data set, found before anything is trained on it.

Harmless problems are dropped or clipped and listed; the others stop the run. An image that is missing, or
an id that means two things, would make results wrong in silence, so these stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table
from rich.text import Text

from models.errors import InputError
from srfgan_cli.data.records import Records

Fate = Literal["stops", "dropped", "clipped", "boxes only"]
SHOWN = 10
"""How many offenders of each kind are named."""

_SLACK = 1.0  # pixels that a box may leave the image by rounding before it is worth a line


@dataclass(frozen=True)
class Problem:
    """One kind of problem.

    Attributes:
        kind: what is wrong.
        fate: what happens: the run `stops`, the annotation or image is `dropped`, its box is `clipped`, or
            it counts for `boxes only`.
        count: how many annotations or images have it.
        first: the first ten of them, by annotation id, image id and file.
    """

    kind: str
    fate: Fate
    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All problems of one annotation file.

    Attributes:
        path: the json file.
        images: how many images it lists.
        annotations: how many annotations it lists.
        problems: the kinds found, the ones that stop first.
    """

    path: Path
    images: int
    annotations: int
    problems: tuple[Problem, ...]

    @property
    def fatal(self) -> bool:
        """Whether nothing can be trained or evaluated on this data."""
        return any(problem.fate == "stops" for problem in self.problems)

    def extended(self, problems: Sequence[Problem]) -> Report:
        """The same report with more problems."""
        together = sorted([*self.problems, *problems], key=lambda problem: problem.fate != "stops")
        return replace(self, problems=tuple(together))

    def table(self) -> Table | Text:
        """The report for a terminal; a single line where there is no problem."""
        title = f"{self.path}: {self.images} images, {self.annotations} annotations"
        if not self.problems:
            return Text(f"{title}, no problems")
        table = Table("problem", "count", "what happens", "first offenders", show_lines=True)
        table.title, table.title_justify = Text(title), "left"
        for problem in self.problems:
            more = [f"... and {problem.count - SHOWN} more"] if problem.count > SHOWN else []
            # Text, because square brackets in a file name are not markup.
            offenders = Text("\n".join([*problem.first, *more]))
            fate = Text(problem.fate, "red" if problem.fate == "stops" else "yellow")
            table.add_row(problem.kind, str(problem.count), fate, offenders)
        return table

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        problems = [{**vars(problem), "first": list(problem.first)} for problem in self.problems]
        return {
            "file": str(self.path),
            "images": self.images,
            "annotations": self.annotations,
            "fatal": self.fatal,
            "problems": problems,
        }

    def raise_if_fatal(self) -> None:
        """Raise an InputError that names the first offenders of every fatal kind."""
        lines = [
            f"  {problem.kind} ({problem.count}): {'; '.join(problem.first[:3])}"
            + ("; ..." if problem.count > 3 else "")
            for problem in self.problems
            if problem.fate == "stops"
        ]
        if lines:
            hint = f"put this right first; `srfgan data check {self.path.parent.parent}` shows the whole list"
            raise InputError("\n".join([f"{self.path}: the data set cannot be used:", *lines, f"  {hint}"]))


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


def check_records(records: Records, missing: np.ndarray | None = None) -> Checked:
    """Find every problem that the json itself shows; no image is opened.

    Args:
        records: the parsed json.
        missing: (N,) bool, images without a file, if the folder was listed.
    """
    image_rows = _rows_of(records.annotation_images, records.image_ids)
    known = image_rows >= 0
    sizes = np.where(known[:, None], records.sizes[image_rows.clip(min=0)], np.iinfo(np.int32).max)
    boxes, box_problems = _check_boxes(records.boxes, sizes)
    labels = records.categories.labels(records.annotation_categories)
    segmentations = records.segmentations
    no_mask = ~segmentations.has_mask & ~segmentations.malformed & ~segmentations.bad_polygon
    has_masks = bool(segmentations.has_mask.any())

    annotation_kinds: list[tuple[str, Fate, np.ndarray]] = [
        ("duplicate annotation id", "stops", _repeated(records.annotation_ids)),
        ("unknown category id", "stops", labels < 0),
        ("unknown image id", "dropped", ~known),
        *box_problems,
        ("segmentation is neither polygons nor RLE", "dropped", segmentations.malformed),
        ("RLE of the wrong size", "dropped", known & segmentations.wrong_runs(sizes)),
        ("mask without a pixel", "dropped", segmentations.blank_runs()),
        ("no mask", "boxes only", no_mask & has_masks),
    ]
    image_kinds: list[tuple[str, Fate, np.ndarray]] = [
        ("duplicate image id", "stops", _repeated(records.image_ids)),
        ("image size below one pixel", "stops", records.sizes.min(axis=1) < 1),
        ("missing image file", "stops", np.zeros(len(records.sizes), bool) if missing is None else missing),
        ("image of a single pixel", "dropped", records.sizes.max(axis=1) == 1),
    ]
    dropped = [found for _, fate, found in annotation_kinds if fate == "dropped"]
    empty_outline = segmentations.bad_polygon & ~segmentations.has_mask
    keep = ~np.any([*dropped, empty_outline, labels < 0], axis=0)
    # An outline may lose one polygon and keep others, so this kind alone does not drop its annotation.
    annotation_kinds.append(
        ("polygon with fewer than 3 points, or not finite", "dropped", segmentations.bad_polygon)
    )

    problems = [_problem(*kind, describe=lambda row: describe_image(records, row)) for kind in image_kinds]
    problems += [
        _problem(*kind, describe=lambda row: _describe_annotation(records, image_rows, row))
        for kind in annotation_kinds
    ]
    report = Report(records.path, len(records.image_ids), len(records.annotation_ids), ())
    report = report.extended([problem for problem in problems if problem.count])
    return Checked(report, keep, boxes, labels, image_rows)


def _check_boxes(
    xywh: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, list[tuple[str, Fate, np.ndarray]]]:
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
