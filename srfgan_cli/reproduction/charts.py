"""The report's charts: differences to the baseline, AP over training, and each run's losses."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
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

MEASURED, PRINTED, SOFT = "#0b6e6e", "#b3541e", "#8a919a"


def draw_charts(
    summary: Mapping[str, Any], graph: Graph, folders: Mapping[str, JobFolder], output_dir: Path
) -> dict[str, Path]:
    """PNG files by name: `differences`, `training` and one `losses-<run>` per training of the first seed.

    A chart without anything to show is left out.

    Raises:
        InputError: a file cannot be written.
    """
    pictures: dict[str, bytes] = {}
    if any(row["difference"] or row["printed_difference"] for row in summary["rows"]):
        pictures["differences"] = _differences(summary["rows"])
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
    """One line per row: every seed, their mean and spread, and the document's number."""
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
    _legend(panels[-1], printed=any(row["printed_difference"] for row in shown))
    return as_png(figure)


def _draw_row(axes: Axes, line: int, measured: Mapping[str, Any] | None, printed: float | None) -> None:
    if measured:
        values = measured["values"]
        axes.plot(values, [line] * len(values), "|", color=MEASURED, markersize=9, alpha=0.7)
        axes.errorbar(
            measured["mean"],
            line,
            xerr=measured["spread"] or None,
            fmt="o",
            color=MEASURED,
            markersize=6,
            capsize=3,
        )
    if printed is not None:
        axes.plot(printed, line, "D", markerfacecolor="none", markeredgecolor=PRINTED, markersize=6.5)


def _legend(axes: Axes, *, printed: bool) -> None:
    axes.plot([], [], "o", color=MEASURED, label="measured, mean and spread")
    axes.plot([], [], "|", color=MEASURED, label="one seed")
    if printed:
        axes.plot([], [], "D", markerfacecolor="none", markeredgecolor=PRINTED, label="printed in the paper")
    axes.figure.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)


def _histories(graph: Graph, folders: Mapping[str, JobFolder]) -> dict[str, list[tuple[int, float]]]:
    """By row, (iteration, box AP averaged over seeds) of its last stage."""
    histories: dict[str, list[tuple[int, float]]] = {}
    for row in graph.rows:
        points: dict[int, list[float]] = {}
        for key in graph.by_seed(row.preset).values():
            for record in folders[graph.jobs[key].sources.get("weights", key)].records():
                value = record.get("evaluation", {}).get("box", {}).get("AP")
                if value is not None:
                    points.setdefault(record["iteration"], []).append(value)
        histories[row.preset] = [
            (iteration, float(np.mean(values))) for iteration, values in sorted(points.items())
        ]
    return histories


def _training(histories: Mapping[str, Sequence[tuple[int, float]]]) -> bytes:
    figure = Figure(figsize=(8.6, 4.4), dpi=130, layout="constrained")
    axes = figure.subplots()
    for index, (row, points) in enumerate(histories.items()):
        if points:
            iterations, values = zip(*points, strict=True)
            style = ("-", "--", ":")[index // 10 % 3]
            colour, label = f"C{index % 10}", chart_text(row)
            axes.plot(iterations, values, style, color=colour, marker="o", markersize=3.5, label=label)
    from_zero(axes)
    axes.set_xlabel("iteration of the last stage", fontsize=9)
    axes.set_ylabel("box AP, percent, mean over seeds", fontsize=9)
    font = {"size": 8, "family": chart_fonts(list(histories))}
    axes.legend(prop=font, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    tidy(axes)
    return as_png(figure)
