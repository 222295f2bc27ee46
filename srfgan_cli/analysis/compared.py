"""What a comparison of two runs says: its rows, for the page and for the terminal, and whether one run is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table

from srfgan_cli.analysis.against import Change
from srfgan_cli.analysis.judgement import Judgement, Other
from srfgan_cli.evaluation.coco import Task, TaskScores
from srfgan_cli.evaluation.crowding import GROUPS
from srfgan_cli.evaluation.groups import ALL, SIZES
from srfgan_cli.evaluation.report import METRICS
from srfgan_cli.screen.console import styled
from srfgan_cli.screen.pages import signed

CLASSES = 20
"""Rows of classes."""
COLOURS = {"": "", "up": "green", "down": "red"}
"""Of a difference in a terminal, by its direction."""


@dataclass(frozen=True)
class Compared:
    """One number of two runs.

    Attributes:
        name: what it is the AP of.
        objects: how many.
        own, other: in percent; None without objects.
        change: the one less the other.
    """

    name: str
    objects: int
    own: float | None
    other: float | None
    change: Change | None


def by_group(own: TaskScores, other: Other) -> list[Compared]:
    """COCO's six precisions, those by size with the sizes' names, and the groups by crowding."""
    groups, theirs, changes = own.groups, other.scores, other.difference.by_metric
    names = dict(zip(METRICS, ("AP", "AP50", "AP75", *SIZES), strict=True))
    of_metric = dict(zip(METRICS, (ALL, ALL, ALL, *SIZES), strict=True))
    rows = [
        Compared(
            name,
            groups[of_metric[metric]].objects,
            getattr(own.overall, metric),
            getattr(theirs.overall, metric),
            changes[metric],
        )
        for metric, name in names.items()
    ]
    return rows + [
        Compared(
            name, groups[name].objects, groups[name].AP, theirs.groups[name].AP, other.difference.groups[name]
        )
        for name in GROUPS
    ]


def by_class(one: Judgement, own: TaskScores, other: Other) -> list[Compared]:
    """Classes with objects: those first whose interval is the farthest from zero, those without one last."""
    columns = zip(
        own.per_class,
        (curve.objects for curve in one.classes),
        own.per_class.values(),
        other.scores.per_class.values(),
        other.difference.per_class,
        strict=True,
    )
    rows = [Compared(*row) for row in columns]
    found = [(row, row.change) for row in rows if row.change is not None]
    order = sorted(found, key=lambda pair: (pair[1].interval is None, -pair[1].surety, -pair[0].objects))
    return [row for row, _ in order]


def verdict(task: Task, other: Other) -> str:
    """Whether one run is better, in a sentence."""
    change = other.difference.groups[ALL]
    if change is None:
        return "There is no object to find."
    by = f"{task.capitalize()} AP differs by {signed(change.value)} points"
    if change.interval is None:
        return f"{by}, on too few images to say how much of it is chance."
    by = f"{by} ({interval(change)})"
    if change.sure:
        better = "This run" if direction(change) == "up" else "The other run"
        return f"{better} is better. {by}, more than the choice of images explains."
    return f"Neither run is better for certain. {by}, which the choice of images may explain."


def interval(change: Change) -> str:
    """Its ends, or that there is none."""
    return "too few images" if change.interval is None else "{} to {}".format(*map(signed, change.interval))


def direction(change: Change | None) -> str:
    """`up` or `down` where the interval leaves out zero."""
    if change is None or change.interval is None or not change.sure:
        return ""
    return "up" if change.interval[0] > 0 else "down"


def comparison_table(
    scores: Mapping[Task, TaskScores], compared: Sequence[tuple[Judgement, Other]]
) -> RenderableType:
    """For a terminal: each task's rows by group, and its verdict."""
    parts: list[RenderableType] = []
    for one, other in compared:
        table = Table(caption="interval: 95 % over the choice of images, for one training each")
        table.add_column(one.task)
        for head in ("objects", "this run", "the other", "difference", "interval"):
            table.add_column(head, justify="right")
        for row in by_group(scores[one.task], other):
            table.add_row(row.name, f"{row.objects:,}", *_cells(row), style=COLOURS[direction(row.change)])
        title = styled((f"{one.task} against {other.name}", "table.title"))
        parts += [title, table, styled((verdict(one.task, other), "bold"))]
    return Group(*parts)


def _cells(row: Compared) -> list[str]:
    if row.change is None:
        return ["-", "-", "", ""]
    values = (f"{value:.1f}" for value in (row.own, row.other) if value is not None)
    return [*values, signed(row.change.value), interval(row.change)]
