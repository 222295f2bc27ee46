"""What an evaluation found, as data: the numbers, what they rest on, and the paper's row beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srfgan_cli.evaluation.coco import Task, TaskScores
from srfgan_cli.evaluation.crowding import GROUPS
from srfgan_cli.presets.facts import Row

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
"""The average precisions, which the papers print; recalls have names by the detections that count (`TaskScores`)."""


@dataclass(frozen=True)
class Report:
    """The outcome of one evaluation.

    Attributes:
        preset: name of the preset, or path of the user's own.
        split: for example `val2017`.
        scores: by task; empty for a split without annotations.
        images: how many images were scored.
        seconds: wall-clock time of detection over all images; 0.0 for results read from a file.
        max_detections: detections per image and category that the scores count.
        left_out: ground truth of no area or outside its image, which is not scored here, but is by pycocotools.
        tta: whether the detector saw each image at several scales.
        reference: the paper's row, if the preset has one.
        results: the results file, if one was written or read.
    """

    preset: str
    split: str
    scores: dict[Task, TaskScores]
    images: int
    seconds: float
    max_detections: int
    left_out: int = 0
    tta: bool = False
    reference: Row | None = None
    results: Path | None = None

    def as_json(self, *, per_class: bool = False) -> dict[str, Any]:
        """The document of `srfgan eval --json`: COCO's numbers in percent, None where there is no object."""
        document: dict[str, Any] = {
            "preset": self.preset,
            "split": self.split,
            "box": self._overall("box"),
            "mask": self._overall("mask"),
            "images": self.images,
            "seconds": round(self.seconds, 3),
            "reference": self.reference.as_json() if self.reference else {},
            "max_detections": self.max_detections,
            "left_out": self.left_out,
            "tta": self.tta,
        }
        crowding = {task: crowding_as_dict(scores) for task, scores in self.scores.items() if scores.groups}
        if crowding:
            document["crowding"] = crowding
        if self.results is not None:
            document["results"] = str(self.results)
        if per_class:
            document["per_class"] = {
                task: {name: _rounded(value) for name, value in scores.per_class.items()}
                for task, scores in self.scores.items()
            }
        return document

    def _overall(self, task: Task) -> dict[str, float | None] | None:
        """One task's numbers, or None if the task was not scored."""
        return scores_as_dict(self.scores[task]) if task in self.scores else None


def scores_as_dict(scores: TaskScores) -> dict[str, float | None]:
    """COCO's twelve numbers, six precisions and then the recalls, by name, rounded to 1/10000 percent."""
    precisions = {metric: getattr(scores.overall, metric) for metric in METRICS}
    return {metric: _rounded(value) for metric, value in (precisions | scores.recall).items()}


def crowding_as_dict(scores: TaskScores) -> dict[str, dict[str, Any]]:
    """How many objects stand alone or close together, and their AP, rounded to 1/10000 percent."""
    groups = {name: scores.groups[name] for name in GROUPS}
    return {name: {"objects": group.objects, "AP": _rounded(group.AP)} for name, group in groups.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
