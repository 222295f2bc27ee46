"""What `srfgan eval --report` does besides scoring: judge the results file, and compare it with another."""

from __future__ import annotations

from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.analysis.judgement import judge
from srfgan_cli.analysis.write_report import write_report
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.dataset import DetectionDataset
from srfgan_cli.evaluation.evaluate import read_results_of
from srfgan_cli.evaluation.report import Report
from srfgan_cli.evaluation.results import Result

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


def judge_results(dataset: DetectionDataset, report: Report, other: Run | None) -> Path:
    """Write report.html and report.json beside the results of an evaluation, and return the page.

    Args:
        dataset: that was scored.
        report: what came out, with its results file.
        other: of `run_to_compare`.

    Raises:
        InputError: a file cannot be written.
    """
    index = dataset.index
    assert report.results is not None
    results = read_results_of(index, report.results)
    judgements = [judge(index, results, task, report.max_detections, other) for task in report.scores]
    return write_report(report, judgements, index, results, dataset.folder, report.results.parent)
