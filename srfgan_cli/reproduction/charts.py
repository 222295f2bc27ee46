"""The report's charts: differences to the baseline, AP over training, and each run's losses."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srfgan.models.errors import InputError
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.reproduction.graph import Graph
from srfgan_cli.reproduction.jobs import JobFolder
from srfgan_cli.visualization.chart_style import as_png, tidy
from srfgan_cli.visualization.curves import curves, from_zero
from srfgan_cli.visualization.palette import with_palette
from srfgan_cli.visualization.text import chart_fonts, chart_text

MEASURED, INTERVAL, PRINTED, SOFT = "#0b6e6e", "#9cc9c5", "#b3541e", "#8a919a"

MARKERS = {"-": "o", "--": "s", ":": "^"}
"""By a row's style of line, its dots where it has no line."""


def draw_charts(
    summary: Mapping[str, Any], graph: Graph, folders: Mapping[str, JobFolder], output_dir: Path
) -> dict[str, Path]:
    """PNG files by name: `differences`, `budgets`, `training` and one `losses-<run>` per training of the first seed.

    A chart without anything to show is left out.

    Raises:
        InputError: a file cannot be written.
    """
    pictures: dict[str, bytes] = {}
    if any(row["difference"] or row["printed_difference"] for row in summary["rows"]):
        pictures["differences"] = _differences(summary["rows"])
    if len({sum(_images(row).values()) for row in summary["rows"] if row["measured"]}) > 1:
        pictures["budgets"] = _budgets(summary["rows"])
    histories = _histories(graph, folders)
    if any(len(points) > 1 for points in histories.values()):
        pictures["training"] = _training(histories)
    first = {job.key for row in graph.presets for job in graph.ancestors(graph.first(row))}
    for job in graph.jobs.values():
        if job.kind == "eval" or job.key not in first:
            continue
        try:
            picture = curves({job.kind: folders[job.key].run.metrics})
        except InputError:
            continue  # nothing logged yet
        buffer = io.BytesIO()
        with_palette(picture).save(buffer, "png", optimize=True)
        pictures[f"losses-{job.key}"] = buffer.getvalue()
    paths = {name: output_dir / f"{name}.png" for name in pictures}
    for name, content in pictures.items():
        write_atomically(paths[name], lambda file, content=content: file.write(content))  # type: ignore[misc]
    return paths


def _differences(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """One line per row: a dot for every seed, their mean and its interval, and the document's number."""
    shown = [row for row in rows if row["baseline"]]
    tasks = [
        t for t in ("box", "mask") if any(t in r["difference"] or t in r["printed_difference"] for r in shown)
    ]
    names = [row["preset"] for row in shown]
    labels = [chart_text(name) for name in names]
    margin = max(1.6, 0.12 * max(map(len, labels), default=0))
    figure = Figure(
        figsize=(4.6 * len(tasks) + margin, 0.42 * len(shown) + 1.3), dpi=130, layout="constrained"
    )
    panels = figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
    for axes, task in zip(panels, tasks, strict=True):
        for line, row in enumerate(shown):
            _draw_row(axes, line, row["difference"].get(task), row["printed_difference"].get(task))
        axes.axvline(0, color=SOFT, linewidth=1)
        axes.set_xlabel(f"{task} AP, difference to the baseline", fontsize=9)
        tidy(axes)
    panels[0].set_yticks(range(len(shown)), labels, fontsize=9, fontfamily=chart_fonts(names))
    panels[0].set_ylim(len(shown) - 0.5, -0.5)
    _legend(panels[-1], shown)
    return as_png(figure)


def _draw_row(axes: Axes, line: int, measured: Mapping[str, Any] | None, printed: float | None) -> None:
    if measured:
        if measured["interval"]:
            axes.plot(measured["interval"], [line, line], "-", color=INTERVAL, linewidth=4)
        axes.plot(measured["mean"], line, "|", color=MEASURED, markersize=15, markeredgewidth=2)
        values = measured["values"]
        axes.plot(values, [line] * len(values), "o", color=MEASURED, markersize=6, markeredgecolor="white")
    if printed is not None:
        axes.plot(printed, line, "D", markerfacecolor="none", markeredgecolor=PRINTED, markersize=6.5)


def _legend(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    axes.plot([], [], "o", color=MEASURED, markeredgecolor="white", label="one seed")
    axes.plot([], [], "|", color=MEASURED, markersize=12, markeredgewidth=2, label="mean")
    if any(found["interval"] for row in rows for found in row["difference"].values()):
        axes.plot([], [], "-", color=INTERVAL, linewidth=4, label="its 95 % interval")
    if any(row["printed_difference"] for row in rows):
        axes.plot([], [], "D", markerfacecolor="none", markeredgecolor=PRINTED, label="printed in the paper")
    axes.figure.legend(loc="outside upper right", ncols=4, fontsize=8, frameon=False)


def _histories(graph: Graph, folders: Mapping[str, JobFolder]) -> dict[str, dict[int, list[float]]]:
    """By row, by iteration of its last stage, the box AP of each seed."""
    histories: dict[str, dict[int, list[float]]] = {}
    for row in graph.rows:
        points: dict[int, list[float]] = {}
        for key in graph.by_seed(row.preset).values():
            for record in folders[graph.training(key).key].records():
                value = record.get("evaluation", {}).get("box", {}).get("AP")
                if value is not None:
                    points.setdefault(record["iteration"], []).append(value)
        histories[row.preset] = dict(sorted(points.items()))
    return histories


def _training(histories: Mapping[str, Mapping[int, Sequence[float]]]) -> bytes:
    """A line per row through its means, and a dot for every seed."""
    figure = Figure(figsize=(8.6, 4.4), dpi=130, layout="constrained")
    axes = figure.subplots()
    for (row, points), (colour, style) in zip(histories.items(), _styles(), strict=False):
        if points:
            seeds = [(iteration, value) for iteration, values in points.items() for value in values]
            axes.plot(
                *zip(*seeds, strict=True), ".", color=colour, markersize=5, alpha=0.5, markeredgewidth=0
            )
            means = [float(np.mean(values)) for values in points.values()]
            axes.plot(list(points), means, style, color=colour, linewidth=1.5, label=chart_text(row))
    from_zero(axes)
    axes.set_xlabel("iteration of the last stage", fontsize=9)
    axes.set_ylabel("box AP, percent: seeds and their mean", fontsize=9)
    _rows_legend(axes, list(histories))
    tidy(axes)
    return as_png(figure)


def _budgets(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Every seed's box AP over the images and the seconds of all stages; a line goes on to those with the guide F."""
    rows = [row for row in rows if row["measured"].get("box", {}).get("AP")]
    devices = list(dict.fromkeys(device for row in rows for device in row["seconds"]))
    panels = [("images of all stages", lambda row: _images(row))]
    if len(devices) == 1:
        panels.append(("seconds of all stages", lambda row: row["seconds"][devices[0]]))
    figure = Figure(figsize=(4.6 * len(panels) + 2.2, 4.2), dpi=130, layout="constrained")
    for axes, (label, budget) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for row, (colour, style) in zip(rows, _styles(), strict=False):
            measured, name = row["measured"]["box"]["AP"], chart_text(row["preset"])
            _draw_budget(axes, budget(row), measured, colour, MARKERS[style], name)
        if any(budget(row)["guide"] for row in rows):
            axes.plot([], [], "-", color=SOFT, linewidth=1, label="and those of F")
        axes.set_xlim(left=0)
        axes.set_xlabel(label, fontsize=9)
        axes.set_ylabel("box AP, percent", fontsize=9)
        tidy(axes)
    _rows_legend(axes, [row["preset"] for row in rows])
    return as_png(figure)


def _draw_budget(
    axes: Axes, spent: Mapping[str, float], measured: Mapping[str, Any], colour: str, marker: str, label: str
) -> None:
    values, mean, at = measured["values"], measured["mean"], spent["stages"]
    axes.plot([at] * len(values), values, marker, color=colour, markersize=5, alpha=0.8, label=label)
    if spent["guide"]:
        axes.plot([at, at + spent["guide"]], [mean, mean], "-", color=colour, linewidth=1, alpha=0.7)


def _images(row: Mapping[str, Any]) -> dict[str, float]:
    seen = row["images"]
    return {"stages": seen["last_stage"] + seen["stages_1_and_2"], "guide": seen["guide"]}


def _styles() -> Iterator[tuple[str, str]]:
    """A colour and a line's style for each row."""
    for index in count():
        yield f"C{index % 10}", list(MARKERS)[index // 10 % len(MARKERS)]


def _rows_legend(axes: Axes, names: Sequence[str]) -> None:
    font = {"size": 8, "family": chart_fonts(names)}
    axes.legend(prop=font, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
