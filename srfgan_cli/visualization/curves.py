"""Training curves from the metrics.jsonl files of one or more runs."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from srfgan.models.errors import InputError
from srfgan_cli.runs.folder import parsed
from srfgan_cli.visualization.chart_style import tidy
from srfgan_cli.visualization.smoothing import moving_average
from srfgan_cli.visualization.text import chart_text

_LOG_FROM = 8.0
"""A loss axis is logarithmic when the plotted values span more than this factor."""


@dataclass(frozen=True)
class Run:
    """One run's numbers: by name, points (iteration, value) in the order of the file."""

    losses: dict[str, list[tuple[float, float]]]
    precisions: dict[str, list[tuple[float, float]]]
    """AP in percent by task."""


def curves(runs: Mapping[str, Path]) -> Image.Image:
    """Draw the losses of runs side by side, and below them their average precisions together.

    Losses are drawn thin as logged and thick as a moving average; their axis is logarithmic where they span
    much. One panel per task (boxes, masks) compares the runs that were evaluated, if there is more than one number.

    Args:
        runs: metrics.jsonl files by the title of their column (`pretrain`, `extract`, ...).

    Raises:
        InputError: no run, a file is missing or holds no losses.
    """
    if not runs:
        raise InputError("no run to draw curves of; give at least one metrics.jsonl")
    read = {title: read_run(path) for title, path in runs.items()}
    evaluations = Counter(
        task for run in read.values() for task, points in run.precisions.items() for _ in points
    )
    tasks = [task for task, count in evaluations.items() if count > 1]  # one number is no curve
    rows = 2 if tasks else 1
    figure = Figure(figsize=(max(4.2 * len(read), 6.0), 3.9 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    bands = figure.subfigures(rows, 1, squeeze=False)[:, 0]
    panels = bands[0].subplots(1, len(read), squeeze=False)[0]
    for axes, (title, run) in zip(panels, read.items(), strict=True):
        _draw_losses(axes, run.losses, title)
    panels[0].set_ylabel("loss", fontsize=9)
    if tasks:
        for axes, task in zip(bands[1].subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
            _draw_precisions(axes, task, read)
    return _rendered(figure)


def read_run(path: Path) -> Run:
    """What a run has logged.

    Args:
        path: its metrics.jsonl; damaged lines, as half a one at the end that a killed run leaves, are skipped.

    Raises:
        InputError: the file cannot be read or holds no losses.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read the metrics: {error.strerror or error}") from error
    losses: dict[str, list[tuple[float, float]]] = defaultdict(list)
    precisions: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in map(parsed, lines):
        if "iteration" not in record:
            continue
        iteration = record["iteration"]
        for name, value in record.get("losses", {}).items():
            losses[name].append((iteration, value))
        for task, scores in record.get("evaluation", {}).items():
            if isinstance(scores, dict) and scores.get("AP") is not None:
                precisions[task].append((iteration, scores["AP"]))
    if not losses:
        raise InputError(f"{path}: holds no losses; has the run logged anything yet?")
    return Run(dict(losses), dict(precisions))


def _draw_losses(axes: Axes, losses: Mapping[str, Sequence[tuple[float, float]]], title: str) -> None:
    series = {name: np.array(points, dtype=float) for name, points in losses.items()}
    smallest, largest = np.inf, 0.0
    for index, (name, points) in enumerate(series.items()):
        smooth = moving_average(points[:, 1])
        colour = f"C{index % 10}"
        axes.plot(points[:, 0], points[:, 1], color=colour, alpha=0.22, linewidth=0.8)
        axes.plot(
            points[:, 0], smooth, color=colour, linewidth=1.8, label=chart_text(name.removeprefix("loss_"))
        )
        positive = smooth[np.isfinite(smooth) & (smooth > 0)]
        if positive.size:
            smallest, largest = min(smallest, positive.min()), max(largest, positive.max())
    if all((points[:, 1] > 0).all() for points in series.values()) and largest > _LOG_FROM * smallest:
        axes.set_yscale("log")
    axes.set_title(chart_text(title), fontsize=11)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    _tidy(axes)


def _draw_precisions(axes: Axes, task: str, runs: Mapping[str, Run]) -> None:
    for index, (title, run) in enumerate(runs.items()):
        if task in run.precisions:
            iterations, values = zip(*run.precisions[task], strict=True)
            axes.plot(
                iterations, values, color=f"C{index % 10}", marker="o", markersize=4, label=chart_text(title)
            )
    from_zero(axes)
    axes.set_title(f"{task} AP, percent", fontsize=11)
    axes.legend(fontsize=8, loc="lower right")
    _tidy(axes)


def from_zero(axes: Axes) -> None:
    """Let the scale of plotted points that are never negative begin at 0, with every marker whole."""
    heights = np.concatenate([[0.0], *(np.asarray(line.get_ydata(), dtype=float) for line in axes.lines)])
    top = float(heights[np.isfinite(heights)].max()) or 1.0
    # A margin of the whole scale: matplotlib's own is one of the points' range, which may be next to nothing.
    axes.set_ylim(0, 1.05 * top)
    for line in axes.lines:
        line.set_clip_on(False)  # for points on the axis


def _tidy(axes: Axes) -> None:
    tidy(axes)
    axes.set_xlabel("iteration", fontsize=9)


def _rendered(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")
