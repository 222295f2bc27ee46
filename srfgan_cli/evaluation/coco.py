"""COCO's average precisions, by faster-coco-eval: pycocotools' numbers, several times faster.

Two things differ from calling the evaluator's own `summarize`, both so that a number means what it says:
every precision refers to the asked `max_detections` (pycocotools' AP is tied to 100), and masks are sized
small, medium or large by their own area, not by their box's (as detectron2 does; the tables rest on it).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from srfgan_cli.config import Scores
from srfgan_cli.evaluation.results import Result, only_masks

Task = Literal["box", "mask"]

_IOU_TYPES: dict[Task, str] = {"box": "bbox", "mask": "segm"}
_AREAS = ("AP", "APs", "APm", "APl")
"""The evaluator's area ranges in its order: all, small, medium, large."""


@dataclass(frozen=True)
class TaskScores:
    """What one task (boxes or masks) scored.

    Attributes:
        overall: average precisions in percent; None where the data has no object to find.
        per_class: AP in percent by category name, in the order of the data set's ids.
    """

    overall: Scores
    per_class: dict[str, float | None]


def score(
    ground_truth: Path | Mapping[str, Any],
    results: Sequence[Result],
    *,
    tasks: Sequence[Task] = ("box", "mask"),
    max_detections: int = 100,
) -> dict[Task, TaskScores]:
    """Score COCO results against COCO ground truth.

    Args:
        ground_truth: an instances json file, or its content. Not changed.
        results: checked results (`read_results`, `to_coco_results`). Not changed.
        tasks: what to score; `mask` needs a `segmentation` in every result, and leaves out objects without.
        max_detections: detections per image and category that count, best first (COCO: 100).
    """
    document = json.loads(ground_truth.read_bytes()) if isinstance(ground_truth, Path) else ground_truth
    return {task: _score_task(_truth(document, task), results, task, max_detections) for task in tasks}


def _score_task(truth: COCO, results: Sequence[Result], task: Task, max_detections: int) -> TaskScores:
    # Copies: the evaluator writes into what it is given.
    if task == "mask":
        found = truth.loadRes(only_masks(results))
    else:
        found = truth.loadRes(
            [{k: v for k, v in result.items() if k != "segmentation"} for result in results]
        )
    evaluator = COCOeval_faster(truth, found, iouType=_IOU_TYPES[task])
    evaluator.params.maxDets = [max_detections]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"][..., 0]  # (thresholds, recalls, classes, areas); -1: no object
    by_area = {name: _percent(precision[..., area]) for area, name in enumerate(_AREAS)}
    thresholds = evaluator.params.iouThrs
    overall = Scores(
        **by_area,
        AP50=_percent(precision[np.isclose(thresholds, 0.5)][..., 0]),
        AP75=_percent(precision[np.isclose(thresholds, 0.75)][..., 0]),
    )
    names = _unique_names([truth.cats[category] for category in evaluator.params.catIds])
    per_class = {name: _percent(precision[:, :, index, 0]) for index, name in enumerate(names)}
    return TaskScores(overall, per_class)


def _unique_names(categories: Sequence[Mapping[str, Any]]) -> list[str]:
    """The categories' names; those that several categories share get their id appended."""
    names = Counter(category["name"] for category in categories)
    return [
        category["name"] if names[category["name"]] == 1 else f"{category['name']} ({category['id']})"
        for category in categories
    ]


def _percent(precision: np.ndarray) -> float | None:
    """Mean precision in percent over everything that has objects; None if nothing has."""
    precision = precision[precision > -1]
    return float(precision.mean()) * 100 if precision.size else None


def _truth(document: Mapping[str, Any], task: Task) -> COCO:
    """The ground truth as copies that the evaluator may write into, with ids from 1 and no key missing.

    The evaluator marks a match by the annotation's id, so that one with id 0 would count as never found.
    """
    annotations = []
    for number, annotation in enumerate(document["annotations"], start=1):
        if task == "mask" and not annotation.get("segmentation"):
            continue
        _, _, width, height = annotation["bbox"]
        defaults = {"iscrowd": 0, "area": width * height}
        annotations.append({**defaults, **annotation, "id": number})
    pictures, categories = list(document["images"]), list(document["categories"])
    return COCO({"images": pictures, "categories": categories, "annotations": annotations})
