"""What `srfgan eval --report` does after it has scored: judge the results file, and compare it with another."""

from __future__ import annotations

from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.analysis.judgement import judge
from srfgan_cli.analysis.write_report import write_report
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.layout import Split
from srfgan_cli.data.open import open_split
from srfgan_cli.evaluation.report import Report
from srfgan_cli.evaluation.results import Result, read_results
from srfgan_cli.presets.config import Config


def judge_preset(
    config: Config, data_root: Path | None, split: Split, report: Report, against: Path | None
) -> Path:
    """Write report.html and report.json beside the results of an evaluation, and return the page.

    Args:
        config: whose data was scored.
        data_root: as for the evaluation.
        split: that was scored.
        report: what came out, with its results file.
        against: another run's results of the same images.

    Raises:
        InputError: no annotations to judge by, or a file of results that does not fit them.
    """
    dataset = open_split(config.data, data_root, split, training=False, masks=False)
    index = dataset.index
    assert report.results is not None
    if not report.scores:
        raise InputError(f"--report: {index.path} has no annotations to judge by.")
    results = _read(report.results, index)
    other = None if against is None else (str(against), _read(against, index))
    judgements = [judge(index, results, task, report.max_detections, other) for task in report.scores]
    return write_report(report, judgements, index, results, dataset.folder, report.results.parent)


def _read(path: Path, index: CocoIndex) -> list[Result]:
    sizes = zip(index.image_ids.tolist(), index.sizes.tolist(), strict=True)
    by_id = {image: (height, width) for image, (height, width) in sizes}
    return read_results(path, image_sizes=by_id, category_ids=index.categories.ids)
