"""All that can be said of a results file at an IoU of 0.5: numbers for scripts, and what the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from srfgan_cli.analysis.against import Change, Difference, difference
from srfgan_cli.analysis.curves import Curve, class_curves, mean_ap, pooled_curve
from srfgan_cli.analysis.errors import Errors, errors
from srfgan_cli.analysis.matches import Matches, match
from srfgan_cli.analysis.slices import ImageScore, Slice, by_crowding, by_image, by_size, confusion
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.evaluation.coco import Task, TaskScores, score
from srfgan_cli.evaluation.report import crowding_as_dict, scores_as_dict
from srfgan_cli.evaluation.results import Result

WORST = 12
"""Images that are named."""


@dataclass(frozen=True)
class Other:
    """Another run on the same images.

    Attributes:
        name: its results file.
        difference: this run's AP less its.
        threshold: at which its F1 is highest.
        errors: their kinds and costs.
        sizes, crowding: its recalls at the threshold.
        scores: COCO's.
        won, lost: images whose F1 is higher or lower than the other's, each at its own threshold.
    """

    name: str
    difference: Difference
    threshold: float
    errors: Errors
    sizes: list[Slice]
    crowding: list[Slice]
    scores: TaskScores
    won: int
    lost: int

    def as_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain data, with the classes' names; precisions in percent, differences in points."""
        differs = self.difference
        return {
            "results": self.name,
            "differences": {metric: _change_as_json(change) for metric, change in differs.by_metric.items()},
            "per_class": [
                {"name": name} | _change_as_json(change)
                for name, change in zip(names, differs.per_class, strict=True)
            ],
            "errors": self.errors.as_json(),
            "recall_by_size": [_slice_as_json(one) for one in self.sizes],
            "recall_by_crowding": [_slice_as_json(one) for one in self.crowding],
            "scores": scores_as_dict(self.scores),
            "crowding": {
                name: group | _change_as_json(differs.groups[name])
                for name, group in crowding_as_dict(self.scores).items()
            },
            "images_won": self.won,
            "images_lost": self.lost,
        }


@dataclass(frozen=True)
class Judgement:
    """Of one task, boxes or masks.

    Attributes:
        matches: what everything rests on.
        classes: a curve for each.
        pooled: of all of them together.
        errors: their kinds and costs.
        threshold: the score at which the pooled F1 is highest; for everything below.
        table: which class was taken for which (`confusion`).
        sizes, crowding: which objects are found.
        images: every image, the worst first.
        other: the run compared with.
    """

    task: Task
    names: tuple[str, ...]
    matches: Matches
    classes: list[Curve]
    pooled: Curve
    errors: Errors
    threshold: float
    table: np.ndarray
    sizes: list[Slice]
    crowding: list[Slice]
    images: list[ImageScore]
    other: Other | None

    def as_json(self, index: CocoIndex) -> dict[str, Any]:
        """Plain data; rates in percent, None where there is nothing to divide by."""
        document: dict[str, Any] = {
            "iou": 0.5,
            "AP50": _rounded(mean_ap(self.classes)),
            **_at_best(self.pooled),
            "errors": self.errors.as_json(),
            "per_class": [
                _class_as_json(name, one) for name, one in zip(self.names, self.classes, strict=True)
            ],
            "confusion": self.table.tolist(),
            "recall_by_size": [_slice_as_json(one) for one in self.sizes],
            "recall_by_crowding": [_slice_as_json(one) for one in self.crowding],
            "worst_images": [
                {"image_id": int(index.image_ids[one.image]), "file_name": index.file_name(one.image)}
                | {key: value for key, value in asdict(one).items() if key != "image"}
                for one in self.images[:WORST]
            ],
        }
        if self.other is not None:
            document["against"] = self.other.as_json(self.names)
        return document


def judge(
    index: CocoIndex,
    results: Sequence[Result],
    task: Task,
    scores: TaskScores,
    max_detections: int,
    against: tuple[str, Sequence[Result]] | None = None,
) -> Judgement:
    """Judge checked results of an annotated data set, and compare them with another run's (name, results).

    Args:
        scores: what `score` says of them, with their groups.
    """
    matches = match(index, results, task, max_detections)
    pooled, found = pooled_curve(matches), errors(matches)
    threshold = _threshold(pooled)
    images = by_image(matches, len(index), threshold)
    other = None
    if against is not None:
        other = _compare(index, images, scores, against, task, max_detections)
    return Judgement(
        task=task,
        names=index.categories.names,
        matches=matches,
        classes=class_curves(matches),
        pooled=pooled,
        errors=found,
        threshold=threshold,
        table=confusion(matches, found, threshold),
        sizes=by_size(matches, threshold),
        crowding=by_crowding(matches, threshold),
        images=sorted(images, key=lambda one: (-(one.missed + one.false), one.f1)),
        other=other,
    )


def _compare(
    index: CocoIndex,
    images: Sequence[ImageScore],
    ours: TaskScores,
    against: tuple[str, Sequence[Result]],
    task: Task,
    max_detections: int,
) -> Other:
    name, results = against
    theirs = match(index, results, task, max_detections)
    threshold = _threshold(pooled_curve(theirs))
    scores = score(index, results, tasks=[task], max_detections=max_detections, by_group=True)[task]
    pairs = list(zip(images, by_image(theirs, len(index), threshold), strict=True))
    return Other(
        name=name,
        difference=difference(ours.groups, scores.groups, len(index)),
        threshold=threshold,
        errors=errors(theirs),
        sizes=by_size(theirs, threshold),
        crowding=by_crowding(theirs, threshold),
        scores=scores,
        won=sum(own.f1 > other.f1 for own, other in pairs),
        lost=sum(own.f1 < other.f1 for own, other in pairs),
    )


def _threshold(pooled: Curve) -> float:
    return pooled.at_best["score_threshold"] or 0.0


def _class_as_json(name: str, one: Curve) -> dict[str, Any]:
    return {
        "name": name,
        "objects": one.objects,
        "detections": len(one.score),
        "AP50": _rounded(one.ap),
        **_at_best(one),
    }


def _at_best(one: Curve) -> dict[str, float | None]:
    """The score from which its F1 is highest, and what it has there, in percent."""
    rates = one.at_best
    score = rates.pop("score_threshold")
    # All its digits: rounded up, it would leave out the detection that it is of.
    return {"score_threshold": score} | {name: _percent(value) for name, value in rates.items()}


def _change_as_json(change: Change | None) -> dict[str, Any]:
    if change is None:
        return {"difference": None, "interval": None}
    interval = None if change.interval is None else [round(end, 4) for end in change.interval]
    return {"difference": _rounded(change.value), "interval": interval}


def _slice_as_json(one: Slice) -> dict[str, Any]:
    return {"name": one.name, "objects": one.objects, "recall": _percent(one.recall)}


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
