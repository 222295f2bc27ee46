"""The evaluation report as rich tables, the paper's numbers beside the measured ones."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from srfgan_cli.evaluation.report import METRICS, Report
from srfgan_cli.presets.facts import Row, Scores
from srfgan_cli.screen.console import styled

COCO_IMAGES = {"val2017": 5000, "test-dev": 20288}
"""What the papers' splits hold, to tell a user's own `val2017` from COCO's."""


def report_table(report: Report, *, per_class: bool = False) -> RenderableType:
    """The report for a terminal: precisions, recalls, and with `per_class` a third table with each class's AP."""
    if not report.scores:
        return (
            f"{report.preset} on {report.split}: {_images(report)} without annotations, nothing to score; "
            f"results in {report.results}"
        )
    title = styled((f"{report.preset} on {report.split}", "table.title"))
    parts: list[RenderableType] = [title, _overall_table(report), _recall_table(report)]
    if report.reference is not None and not _same_data(report, report.reference):
        split = report.reference.split
        note = f"The paper's numbers are of COCO {split}, {COCO_IMAGES[split]} images: other data than these."
        parts.append(styled((note, "yellow")))
    if report.left_out:
        parts.append(styled((_left_out(report.left_out), "yellow")))
    if report.reference is not None and report.reference.note:
        parts.append(styled(f"{report.reference.note}."))
    if per_class:
        parts.append(_per_class_table(report))
    return Group(*parts)


def _overall_table(report: Report) -> Table:
    table = Table(
        caption=f"percent, {_images(report)}, at most {report.max_detections} detections per image",
    )
    table.add_column("")
    table.add_column("")
    for metric in METRICS:
        table.add_column(metric, justify="right")
    for task, scores in report.scores.items():
        table.add_row(task, "measured", *_cells(scores.overall), style="bold")
        paper = getattr(report.reference, task, None)
        if report.reference is not None and paper is not None:
            table.add_row("", _source(report.reference), *_cells(paper))
            table.add_row("", "difference", *_differences(scores.overall, paper), style="dim")
        table.add_section()
    return table


def _left_out(count: int) -> str:
    return (
        f"Not scored, being of no area or outside the image: {count} of the ground truth. "
        "--set evaluation.count_unusable=true counts them as missed, as pycocotools does."
    )


def _recall_table(report: Report) -> Table:
    """The recalls, which no paper of the tables prints, apart from the precisions."""
    table = Table(caption=f"average recall, percent; by size at {report.max_detections} detections")
    table.add_column("")
    for metric in next(iter(report.scores.values())).recall:
        table.add_column(metric, justify="right")
    for task, scores in report.scores.items():
        table.add_row(task, *map(_cell, scores.recall.values()))
    return table


def _per_class_table(report: Report) -> Table:
    table = Table(title="AP by class")
    table.add_column("class")
    for task in report.scores:
        table.add_column(task, justify="right")
    columns = [scores.per_class for scores in report.scores.values()]
    for name in columns[0] if columns else ():
        table.add_row(name, *(_cell(column[name]) for column in columns))
    return table


def _images(report: Report) -> str:
    return f"{report.images} image{'s' if report.images != 1 else ''}"


def _same_data(report: Report, reference: Row) -> bool:
    """Whether the report's split is, as far as one can tell, the one the paper's numbers come from."""
    return report.split == reference.split and report.images == COCO_IMAGES[reference.split]


def _source(reference: Row) -> str:
    if reference.table == reference.document:
        return reference.document
    return f"{reference.document.removesuffix('_paper')}, {reference.table}"


def _cells(scores: Scores) -> list[str]:
    return [_cell(getattr(scores, metric)) for metric in METRICS]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _differences(measured: Scores, paper: Scores) -> list[str]:
    pairs = [(getattr(measured, metric), getattr(paper, metric)) for metric in METRICS]
    return ["" if a is None or b is None else f"{a - b:+.1f}" for a, b in pairs]
