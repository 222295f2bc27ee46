"""The page's charts: precision over recall, F1 over score, what errors cost, and which class is taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srfgan_cli.analysis.curves import Curve
from srfgan_cli.analysis.errors import KINDS
from srfgan_cli.analysis.judgement import Judgement
from srfgan_cli.visualization.chart_style import as_png, tidy
from srfgan_cli.visualization.text import chart_fonts, chart_text, shortened

_LINES = 8
"""Classes that have a curve of their own: those with the most objects."""
_LARGEST_TABLE = 40
_MAIN, _SECOND, _THIRD = "#0b6e6e", "#b3541e", "#5c6570"


def curves_chart(judgement: Judgement) -> bytes:
    """Precision over recall of classes and of all, and precision, recall and F1 over the score, as PNG."""
    figure = Figure(figsize=(11, 4.4), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = [at for at, one in enumerate(judgement.classes) if one.objects]
    shown = sorted(shown, key=lambda at: -judgement.classes[at].objects)[:_LINES]
    names = [shortened(judgement.names[at], 24) for at in shown]
    if len(judgement.classes) > 1:
        for at, name in zip(shown, names, strict=True):
            one = judgement.classes[at]
            _steps(left, one, label=f"{chart_text(name)} {one.ap or 0:.1f}", linewidth=1.2)
    _steps(left, judgement.pooled, label="all detections", linewidth=2.4, color="black")
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    # Where no curves are; "best" looks at each of their points.
    free = "lower left" if (judgement.pooled.ap or 0) > 50 else "upper right"
    if left.lines:
        left.legend(prop={"size": 8, "family": chart_fonts(names)}, frameon=False, loc=free)
    pooled = judgement.pooled
    for values, name, colour in (
        (pooled.precision, "precision", _SECOND),
        (pooled.recall, "recall", _THIRD),
        (pooled.f1, "F1", _MAIN),
    ):
        right.plot(pooled.score, values, color=colour, label=name, linewidth=2.2 if name == "F1" else 1.2)
    right.axvline(judgement.threshold, color=_MAIN, linestyle=":", linewidth=1)
    right.set(xlabel="score from which detections count", xlim=(0, 1), ylim=(0, 1.02))
    right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        tidy(axes)
    return as_png(figure)


def errors_chart(judgements: list[Judgement]) -> bytes:
    """What each kind of error costs, for each task."""
    figure = Figure(figsize=(7.2, 2.9), dpi=130, layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(judgements)
    for number, (one, colour) in enumerate(zip(judgements, (_MAIN, _SECOND), strict=False)):
        places = np.arange(len(KINDS)) + (number - (len(judgements) - 1) / 2) * height
        bars = axes.barh(
            places, [one.errors.cost[kind] for kind in KINDS], height, color=colour, label=one.task
        )
        axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=3)
    axes.set_yticks(range(len(KINDS)), KINDS, fontsize=9)
    axes.set_ylim(len(KINDS) - 0.5, -0.5)
    axes.set_xlabel("points of AP50 that it costs", fontsize=9)
    axes.margins(x=0.12)
    if len(judgements) > 1:
        axes.legend(fontsize=8, frameon=False)
    tidy(axes)
    return as_png(figure)


def confusion_chart(judgement: Judgement) -> bytes | None:
    """Which class is taken for which, in shares of the row; None for one class, and for too many to read."""
    classes = len(judgement.names)
    if not 1 < classes <= _LARGEST_TABLE:
        return None
    table = judgement.table.astype(np.float64)
    shares = np.divide(table, table.sum(axis=1, keepdims=True), out=np.zeros_like(table), where=table > 0)
    side = 2.6 + 0.34 * (classes + 1)
    figure = Figure(figsize=(side + 0.8, side), dpi=130, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [shortened(name, 20) for name in judgement.names]
    labels = [*(chart_text(name) for name in names), "nothing"]
    font = chart_fonts(names)
    axes.set_xticks(range(classes + 1), labels, rotation=90, fontsize=8, fontfamily=font)
    axes.set_yticks(range(classes + 1), labels, fontsize=8, fontfamily=font)
    axes.set(xlabel="taken for", ylabel="it is")
    if classes <= 12:
        for (row, column), count in np.ndenumerate(judgement.table):
            if count:
                colour = "white" if shares[row, column] > 0.55 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7.5, color=colour)
    figure.colorbar(image, ax=axes, label="share of the row", shrink=0.7)
    return as_png(figure)


def _steps(axes: Axes, one: Curve, **style: Any) -> None:
    if len(one.score):
        axes.step(one.recall, one.precision, where="post", **style)
