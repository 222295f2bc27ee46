"""What `srfgan eval --report` does besides scoring: judge the results file, and compare it with another."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.analysis.judgement import Judgement, judge
from srfgan_cli.analysis.write_report import write_report
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.evaluation.coco import REGIONS, Task
from srfgan_cli.evaluation.report import Report
from srfgan_cli.evaluation.results import Result
from srfgan_cli.evaluation.score_file import read_results_of

Run = tuple[str, list[Result]]
"""The name of a file of results, and what is in it."""


def run_to_compare(index: CocoIndex, against: Path | None) -> Run | None:
    """Another run's results, read before this one's are made: that may take hours.

    Raises:
        InputError: the data has no annotations to judge by, or the results do not fit it.
    """
    if not index.annotated:
        raise InputError(f"--report: {index.path} has no annotations to judge by.")
    return None if against is None else (str(against), read_results_of(index, against))


def judge_results(
    index: CocoIndex,
    folder: Path,
    report: Report,
    results: list[Result] | None,
    other: Run | None,
    *,
    output_dir: Path | None = None,
) -> tuple[Path, list[Judgement]]:
    """Write report.html and report.json of an evaluation; returns the page and what it shows.

    Args:
        index: the data set that was scored.
        folder: of its images.
        report: what came out, with its results file and its scores by group.
        results: what is in that file, where it has been read.
        other: of `run_to_compare`.
        output_dir: where they go; None: beside the results.

    Raises:
        InputError: a file cannot be written, or the other run has nothing to compare with these results.
    """
    assert report.results is not None
    compared = tasks_compared(report.scores, other)
    if results is None:
        results = read_results_of(index, report.results)
    judgements = [
        judge(
            index,
            results,
            task,
            scores,
            report.max_detections,
            other if task in compared else None,
        )
        for task, scores in report.scores.items()
    ]
    page = write_report(report, judgements, index, results, folder, output_dir or report.results.parent)
    return page, judgements


def tasks_compared(scored: Collection[Task], other: Run | None) -> list[Task]:
    """The tasks that the other run has too; all of them where it found nothing.

    Raises:
        InputError: it has none.
    """
    if other is None:
        return []
    name, results = other
    compared = [task for task in scored if not results or REGIONS[task] in results[0]]
    if not compared:
        raise InputError(
            f"--against: {name} and these results have nothing in common: one has boxes only, the other masks only."
        )
    return compared
