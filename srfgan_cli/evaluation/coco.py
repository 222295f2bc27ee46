"""COCO's average precisions and recalls, by faster-coco-eval: pycocotools' numbers, several times faster.

Two things differ from calling the evaluator's own `summarize`, both so that a number means what it says:
every precision, and every recall that does not name fewer, refers to the asked `max_detections` (pycocotools'
AP is tied to 100), and masks are sized small, medium or large by their own area, not by their box's (as
detectron2 does; the tables rest on it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from srfgan_cli.data.categories import CategoryMap, told_apart
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.json_file import collector_paused
from srfgan_cli.data.ragged import row_of
from srfgan_cli.evaluation.groups import Group, ap_by_group
from srfgan_cli.evaluation.results import Result, only_masks
from srfgan_cli.presets.facts import Scores

Task = Literal["box", "mask"]

REGIONS: dict[Task, str] = {"box": "bbox", "mask": "segmentation"}
"""The key of what a task looks at, in results and annotations."""
_IOU_TYPES: dict[Task, str] = {"box": "bbox", "mask": "segm"}
_AREAS = ("", "s", "m", "l")
"""What a number's name adds for the evaluator's area ranges, in its order: all, small, medium, large."""
_FEW = (1, 10)
"""Detections per image and category at which COCO takes recalls besides the most that count."""


@dataclass(frozen=True)
class TaskScores:
    """What one task (boxes or masks) scored.

    Attributes:
        overall: average precisions in percent; None where the data has no object to find.
        recall: average recalls in percent by name: at 1, at 10 and at the most detections that count, `AR@1`,
            `AR@10`, `AR@100`; at the most of small, medium and large objects, `ARs`, `ARm`, `ARl`. The most may
            be 10 or fewer, and then nothing above it is there.
        per_class: AP in percent by category name, in the order of the data set's ids.
        groups: of all objects, by size and by crowding (`ap_by_group`); empty where that was not asked for.
    """

    overall: Scores
    recall: dict[str, float | None]
    per_class: dict[str, float | None]
    groups: dict[str, Group]


@collector_paused()
def score(
    index: CocoIndex,
    results: Sequence[Result],
    *,
    tasks: Sequence[Task] = ("box", "mask"),
    max_detections: int = 100,
    by_group: bool = False,
) -> dict[Task, TaskScores]:
    """Score COCO results against the checked annotations that training would see.

    Args:
        index: the data set.
        results: checked results (`read_results`, `to_coco_results`) of its images. Not changed.
        tasks: what to score; `box` needs a `bbox` in every result, `mask` a `segmentation`, and leaves out objects
            without one.
        max_detections: detections per image and category that count, best first (COCO: 100).
        by_group: also of groups of objects, which takes three quarters as long again.
    """
    return {task: _score_task(index, results, task, max_detections, by_group) for task in tasks}


def _score_task(
    index: CocoIndex, results: Sequence[Result], task: Task, max_detections: int, by_group: bool
) -> TaskScores:
    truth = COCO(ground_truth(index, task))
    found = truth.loadRes(_numbered(index, results, task))
    evaluator = COCOeval_faster(truth, found, iouType=_IOU_TYPES[task])
    limits = [*(few for few in _FEW if few < max_detections), max_detections]
    evaluator.params.maxDets = limits
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"][..., -1]  # (thresholds, recalls, classes, areas); -1: no object
    by_area = {f"AP{name}": _percent(precision[..., area]) for area, name in enumerate(_AREAS)}
    thresholds = evaluator.params.iouThrs
    overall = Scores(
        **by_area,
        AP50=_percent(precision[np.isclose(thresholds, 0.5)][..., 0]),
        AP75=_percent(precision[np.isclose(thresholds, 0.75)][..., 0]),
    )
    names = _unique_names(index.categories)
    per_class = {name: _percent(precision[:, :, index, 0]) for index, name in enumerate(names)}
    recalls = _recalls(evaluator.eval["recall"], limits)
    return TaskScores(overall, recalls, per_class, ap_by_group(evaluator) if by_group else {})


def _recalls(recall: np.ndarray, limits: Sequence[int]) -> dict[str, float | None]:
    """Average recalls by name, of (thresholds, classes, areas, limits) with -1 where there is no object."""
    by_limit = {f"AR@{limit}": _percent(recall[..., 0, place]) for place, limit in enumerate(limits)}
    by_area = {f"AR{name}": _percent(recall[..., area, -1]) for area, name in enumerate(_AREAS) if name}
    return by_limit | by_area


def _unique_names(categories: CategoryMap) -> list[str]:
    """The categories' names; those that several categories share get their id appended."""
    return told_apart(categories.names, [f" ({id_})" for id_ in categories.ids])


def _percent(values: np.ndarray) -> float | None:
    """Mean precision or recall in percent over everything that has objects; None if nothing has."""
    values = values[values > -1]
    return float(values.mean()) * 100 if values.size else None


def ground_truth(index: CocoIndex, task: Task) -> dict[str, Any]:
    """The objects to find, as a COCO document for the evaluator; for masks, those that have a usable one.

    Images, categories and annotations are numbered from 1 in the order of the index, whatever their ids: the
    evaluator takes an id of 0 for "no match", and negative ones for none at all.
    """
    chosen = index.has_mask if task == "mask" else np.ones(len(index.boxes), bool)
    images = row_of(index.first)
    columns = {
        "id": np.arange(1, len(chosen) + 1),
        "image_id": images + 1,
        "category_id": index.labels + 1,
        "bbox": index.truth_boxes,
        "area": index.areas,
        "iscrowd": index.crowd.astype(np.int64),
    }
    annotations = [
        dict(zip(columns, values, strict=True))
        for values in zip(*(column[chosen].tolist() for column in columns.values()), strict=True)
    ]
    sizes = index.sizes.tolist()
    if task == "mask":
        for annotation, row in zip(annotations, np.flatnonzero(chosen).tolist(), strict=True):
            annotation["segmentation"] = index.segmentation(row, sizes[annotation["image_id"] - 1])
    return {
        "images": [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(sizes, start=1)],
        "categories": [{"id": label + 1} for label in range(len(index.categories))],
        "annotations": annotations,
    }


def _numbered(index: CocoIndex, results: Sequence[Result], task: Task) -> list[Result]:
    """Copies of the results, which the evaluator writes into, with what the task looks at and its numbers."""
    images = {image: number for number, image in enumerate(index.image_ids.tolist(), start=1)}
    categories = {category: number for number, category in enumerate(index.categories.ids, start=1)}
    given = only_masks(results) if task == "mask" else results
    region = REGIONS[task]
    return [
        {
            "image_id": images[result["image_id"]],
            "category_id": categories[result["category_id"]],
            "score": result["score"],
            region: result[region],
        }
        for result in given
    ]
