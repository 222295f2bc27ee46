"""How much of the gain the choice of val images may explain: the two detectors compared over draws of images."""

from __future__ import annotations

from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.analysis.against import Change, difference
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.open_index import open_index
from srfgan_cli.evaluation.coco import Task, TaskScores, score
from srfgan_cli.evaluation.score_file import read_results_of, tasks_of
from srfgan_cli.presets.config import Config
from srfgan_cli.reproduction.jobs import JobFolder

Changes = dict[str, Change | None]
"""By COCO's average precisions; None without objects."""


def compare_scores(
    config: Config, data_root: Path | None, *, plain: JobFolder, method: JobFolder
) -> dict[str, Changes]:
    """The method's average precisions less the plain detector's, in points, by task: `box`, `mask`.

    Args:
        config: the method's; its val split is what both were scored on.
        plain, method: where they were scored.

    Raises:
        InputError: scores or results that cannot be read, or do not fit the data any more.
    """
    index, _ = open_index(config.data, data_root, "val", count_unusable=config.evaluation.count_unusable)
    tasks = [task for task in tasks_of(index, has_boxes=True, has_masks=True) if task in method.scores()]
    new, old = (_scored(index, folder, tasks) for folder in (method, plain))
    return {task: difference(new[task].groups, old[task].groups, len(index)).by_metric for task in tasks}


def _scored(index: CocoIndex, folder: JobFolder, tasks: list[Task]) -> dict[Task, TaskScores]:
    results = read_results_of(index, folder.results)
    limit = folder.evaluation().get("max_detections")
    if not isinstance(limit, int) or limit < 1:
        raise InputError(
            f"{folder.run.evaluation} is damaged; remove it and the model beside it to score again."
        )
    return score(index, results, tasks=tasks, max_detections=limit, by_group=True)
