"""The columns of a report's main table, for its HTML and its Markdown alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.special import stdtrit

from srfgan_cli.reproduction.outcome import TASKS
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
        style: a row's CSS class in HTML.
    """

    group: str
    head: str
    text: Callable[[ReportRow], str]
    style: Callable[[ReportRow], str] = lambda row: ""


def columns(rows: Sequence[ReportRow]) -> list[Column]:
    """The columns in which any of the rows has something to show."""
    every = [column for task in TASKS for column in _task_columns(task)] + _cost_columns() + _image_columns()
    if len({device for row in rows for device in row.get("on", ())}) > 1:
        every.append(Column("", "ran on", lambda row: "; ".join(row["on"])))
    return [column for column in every if any(column.text(row) for row in rows)]


def _task_columns(task: str) -> list[Column]:
    group = f"{task} AP"
    return [
        Column(
            group,
            "measured",
            lambda row: _with_spread(row["measured"].get(task, {}).get("AP")),
            lambda row: "main",
        ),
        Column(group, "paper", lambda row: _number(row["printed"].get(task, {}).get("AP"))),
        Column(
            group,
            "diff.",
            lambda row: _with_spread(row["difference"].get(task), sign=True),
            lambda row: _direction(row["difference"].get(task)),
        ),
        Column(group, "paper's diff.", lambda row: _signed(row["printed_difference"].get(task))),
    ]


def _cost_columns() -> list[Column]:
    return [
        Column(
            "cost", "M params", lambda row: f"{row['cost']['parameters'] / 1e6:.1f}" if row["cost"] else ""
        ),
        Column("cost", "GMAC", lambda row: f"{row['cost']['gmacs']:.1f}" if row["cost"] else ""),
        Column(
            "cost", "ms", lambda row: f"{row['cost']['ms']:.0f}" if row["cost"] and row["cost"]["ms"] else ""
        ),
        Column("cost", "paper's ms", lambda row: f"{row['printed_ms']:.0f}" if row["printed_ms"] else ""),
    ]


def _image_columns() -> list[Column]:
    return [
        Column("images seen", "last stage", lambda row: f"{row['images']['last_stage']:,}"),
        Column("images seen", "stages 1, 2", lambda row: f"{row['images']['stages_1_and_2']:,}"),
        Column("images seen", "guide F", lambda row: f"{row['images']['guide']:,}"),
    ]


def _with_spread(found: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    if found is None:
        return ""
    mean = signed(found["mean"]) if sign else f"{found['mean']:.1f}"
    return mean if found["spread"] is None else f"{mean} ± {found['spread']:.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "" if value is None else signed(value)


def _direction(found: Mapping[str, Any] | None) -> str:
    """`up` or `down` where the 95% interval of a difference, by Student's t over the seeds, leaves out zero."""
    if not found or found["spread"] is None:
        return ""
    seeds = len(found["values"])
    if abs(found["mean"]) <= stdtrit(seeds - 1, 0.975) * found["spread"] / seeds**0.5:
        return ""
    return "up" if found["mean"] > 0 else "down"
