"""The columns of a report's tables, for its HTML and its Markdown alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srfgan_cli.reproduction.outcome import SIZES, TASKS
from srfgan_cli.screen.pages import signed

ReportRow = Mapping[str, Any]
"""One of `rows` of report.json."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        group: what it belongs to, as `box AP`.
        head: what it is within the group.
        text: a row's cell.
        below: what stands smaller below it.
        style: a row's CSS class in HTML.
    """

    group: str
    head: str
    text: Callable[[ReportRow], str]
    below: Callable[[ReportRow], str] = lambda row: ""
    style: Callable[[ReportRow], str] = lambda row: ""


def columns(rows: Sequence[ReportRow]) -> list[Column]:
    """The main table's, in which any of the rows has something to show."""
    every = [column for task in TASKS for column in _task_columns(task)] + _cost_columns() + _budget_columns()
    return _shown(every, rows)


def size_columns(rows: Sequence[ReportRow]) -> list[Column]:
    """The columns by the objects' size, as `columns`."""
    return _shown([column for task in TASKS for size in SIZES for column in _size_columns(task, size)], rows)


def _shown(every: Sequence[Column], rows: Sequence[ReportRow]) -> list[Column]:
    return [column for column in every if any(column.text(row) for row in rows)]


def _task_columns(task: str) -> list[Column]:
    group = f"{task} AP"
    return [
        Column(
            group,
            "measured",
            lambda row: _with_spread(row["measured"].get(task, {}).get("AP")),
            style=lambda row: "main",
        ),
        Column(group, "paper", lambda row: _number(row["printed"].get(task, {}).get("AP"))),
        _difference_column(group, lambda row: row["difference"].get(task)),
        Column(group, "paper's diff.", lambda row: _signed(row["printed_difference"].get(task))),
    ]


def _size_columns(task: str, metric: str) -> list[Column]:
    group = f"{task} AP, {SIZES[metric]}"
    return [
        Column(group, "measured", lambda row: _with_spread(row["measured"].get(task, {}).get(metric))),
        _difference_column(group, lambda row: row["difference_by_size"][metric].get(task)),
    ]


def _difference_column(group: str, found: Callable[[ReportRow], Mapping[str, Any] | None]) -> Column:
    return Column(
        group,
        "diff.",
        lambda row: _with_spread(found(row), sign=True),
        lambda row: _interval(found(row)),
        lambda row: _direction(found(row)),
    )


def _cost_columns() -> list[Column]:
    return [
        Column(
            "cost", "M params", lambda row: f"{row['cost']['parameters'] / 1e6:.1f}" if row["cost"] else ""
        ),
        Column("cost", "GMAC", lambda row: f"{row['cost']['gmacs']:.1f}" if row["cost"] else ""),
        Column("cost", "ms", lambda row: _milliseconds(row["cost"]["ms"]) if row["cost"] else ""),
        Column("cost", "paper's ms", lambda row: _milliseconds(row["printed_ms"])),
    ]


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _budget_columns() -> list[Column]:
    return [
        Column("last stage", "iterations", lambda row: f"{row['iterations']:,}"),
        Column("all stages", "images", _images, lambda row: _guide([row["images"]["guide"]])),
        Column(
            "all stages",
            "seconds",
            # By device, in the order that the row's name tells.
            lambda row: "; ".join(f"{taken['stages']:,.0f}" for taken in row["seconds"].values()),
            lambda row: _guide([taken["guide"] for taken in row["seconds"].values()]),
        ),
    ]


def _images(row: ReportRow) -> str:
    return f"{row['images']['last_stage'] + row['images']['stages_1_and_2']:,}"


def _guide(numbers: Sequence[float]) -> str:
    return f"F {'; '.join(f'{number:,.0f}' for number in numbers)}" if any(numbers) else ""


def _with_spread(found: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    if found is None:
        return ""
    mean = signed(found["mean"]) if sign else f"{found['mean']:.1f}"
    return mean if found["spread"] is None else f"{mean} ± {found['spread']:.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "" if value is None else signed(value)


def _interval(found: Mapping[str, Any] | None) -> str:
    return "{} to {}".format(*map(signed, found["interval"])) if found and found["interval"] else ""


def _direction(found: Mapping[str, Any] | None) -> str:
    """`up` or `down` where the interval of a difference leaves out zero."""
    if not found or not found["interval"]:
        return ""
    low, high = found["interval"]
    return "up" if low > 0 else "down" if high < 0 else ""
