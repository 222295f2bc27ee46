"""A file of results scored without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.layout import ROBOFLOW_JSON
from srfgan_cli.evaluation.coco import Task, score
from srfgan_cli.evaluation.report import Report
from srfgan_cli.evaluation.results import Result, read_results
from srfgan_cli.presets.facts import Row


def evaluate_results(
    path: Path,
    index: CocoIndex,
    found: Sequence[Result] | None = None,
    *,
    preset: str,
    split: str | None = None,
    max_detections: int = 100,
    reference: Row | None = None,
    tta: bool = False,
    by_group: bool = False,
) -> Report:
    """Score a results file without a model, as `evaluate` would; masks if it has them.

    `found` is what is in it, where that has been read; `tta` is what the report says of them; `by_group` as for
    `score`.

    Raises:
        InputError: the split has no annotations, or the results do not fit it.
    """
    if not index.annotated:
        raise InputError(f"{index.path}: has no annotations, so results cannot be scored here")
    found = read_results_of(index, path) if found is None else found
    tasks = tasks_of(
        index, has_boxes=not found or "bbox" in found[0], has_masks="segmentation" in (found or [{}])[0]
    )
    if not tasks:
        raise InputError(
            f"{path}: the results are masks without boxes, but no annotation of {index.path} has a usable mask"
        )
    return Report(
        preset=preset,
        split=split or split_name(index),
        scores=score(index, found, tasks=tasks, max_detections=max_detections, by_group=by_group),
        images=len(index),
        seconds=0.0,
        max_detections=max_detections,
        left_out=index.left_out,
        tta=tta,
        reference=reference,
        results=path,
    )


def read_results_of(index: CocoIndex, path: Path) -> list[Result]:
    """The results in a file, of images of this data set; see `read_results`."""
    sizes = {
        image: (h, w) for image, (h, w) in zip(index.image_ids.tolist(), index.sizes.tolist(), strict=True)
    }
    return read_results(path, image_sizes=sizes, category_ids=index.categories.ids)


def split_name(index: CocoIndex) -> str:
    """The split by COCO's name, from the json's: `val2017`, `test-dev2017`; Roboflow's by its folder's: `valid`."""
    path = index.path
    name = path.absolute().parent.name if path.name == ROBOFLOW_JSON else path.stem
    return name.removeprefix("instances_").removeprefix("image_info_")


def tasks_of(index: CocoIndex, *, has_boxes: bool, has_masks: bool) -> list[Task]:
    """What can be scored: what the results have, and masks only where the data set has some."""
    tasks: list[Task] = ["box"] if has_boxes else []
    return [*tasks, "mask"] if has_masks and bool(index.has_mask.any()) else tasks
