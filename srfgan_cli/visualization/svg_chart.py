"""Line charts as SVG, for pages that are drawn anew while a run trains: in milliseconds, and sharp at any size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

import numpy as np

from srfgan_cli.visualization.smoothing import moving_average

Points = Sequence[tuple[float, float]]

COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"
)  # fmt: skip
_WIDTH, _HEIGHT = 520, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 30, 26
_LOG_FROM = 8.0
"""A scale is logarithmic where what is drawn spans more than this factor."""
_MOST_POINTS = 400
"""As many stand side by side in a chart's width."""


def line_chart(
    title: str, series: Mapping[str, Points], *, smooth: bool = False, from_zero: bool = False
) -> str:
    """An `<svg>` of some series over the iteration.

    Args:
        series: points (iteration, value) by name; values that are not finite are left out.
        smooth: draw the moving average thick over the thin values.
        from_zero: the scale begins at 0, and points are marked: for scores.
    """
    drawn = {name: kept for name, points in series.items() if len(kept := _finite(points))}
    if not drawn:
        return ""
    shown = {name: _averaged(points) if smooth else points for name, points in drawn.items()}
    values = np.concatenate([points[:, 1] for points in shown.values()])
    logarithmic = not from_zero and bool(values.min() > 0 and values.max() > _LOG_FROM * values.min())
    place = _Scale(drawn, values, logarithmic=logarithmic, from_zero=from_zero)
    parts = [*_frame(title, place)]
    for index, (name, points) in enumerate(drawn.items()):
        colour = COLOURS[index % len(COLOURS)]
        if smooth:
            parts.append(_line(points, place, colour, "thin"))
        parts.append(_line(shown[name], place, colour, "thick"))
        if from_zero:
            parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in place.pixels(points)]
    legend = "".join(
        f'<span><i style="background:{COLOURS[index % len(COLOURS)]}"></i>{escape(name)} '
        f"<b>{_number(shown[name][-1, 1])}</b></span>"
        for index, name in enumerate(drawn)
    )
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f'<figure class="chart">{svg}<figcaption>{legend}</figcaption></figure>'


class _Scale:
    """From iterations and values to pixels."""

    def __init__(
        self, series: Mapping[str, np.ndarray], values: np.ndarray, *, logarithmic: bool, from_zero: bool
    ) -> None:
        ends = [points[[0, -1], 0] for points in series.values()]
        self.first, self.last = float(np.min(ends)), float(np.max(ends))
        self.logarithmic = logarithmic
        low, high = (0.0, float(values.max())) if from_zero else (float(values.min()), float(values.max()))
        self.ticks = _decades(low, high) if logarithmic else _ticks(low, high)
        self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])

    def pixels(self, points: np.ndarray) -> list[tuple[float, float]]:
        """(L, 2) iterations and values to places in the chart."""
        span = max(self.last - self.first, 1e-9)
        x = _LEFT + (points[:, 0] - self.first) / span * (_WIDTH - _LEFT - _RIGHT)
        return [
            (round(float(a), 1), round(self.height(float(b)), 1))
            for a, b in zip(x, points[:, 1], strict=True)
        ]

    def height(self, value: float) -> float:
        """The place of a value, from the top; what lies outside is at the edge."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / max(high - low, 1e-12)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _frame(title: str, place: _Scale) -> list[str]:
    parts = [f'<text class="title" x="{_LEFT}" y="18">{escape(title)}</text>']
    for tick in place.ticks:
        y = round(place.height(tick), 1)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{_number(tick)}</text>')
    ends = [(_LEFT, "start", place.first), (_WIDTH - _RIGHT, "end", place.last)]
    for x, anchor, value in ends if place.last > place.first else ends[:1]:
        parts.append(f'<text x="{x}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{value:,.0f}</text>')
    return parts


def _line(points: np.ndarray, place: _Scale, colour: str, kind: str) -> str:
    path = " ".join(f"{x},{y}" for x, y in place.pixels(_thinned(points)))
    return f'<polyline class="{kind}" points="{path}" stroke="{colour}"/>'


def _finite(points: Points) -> np.ndarray:
    array = np.array(points, dtype=float).reshape(-1, 2)
    kept: np.ndarray = array[np.isfinite(array).all(axis=1)]
    return kept


def _averaged(points: np.ndarray) -> np.ndarray:
    return np.stack([points[:, 0], moving_average(points[:, 1])], axis=1)


def _thinned(points: np.ndarray) -> np.ndarray:
    """Means of neighbours, where there are more points than pixels to show them."""
    if len(points) <= _MOST_POINTS:
        return points
    edges = np.linspace(0, len(points), _MOST_POINTS + 1).astype(int)
    return np.stack([points[first:last].mean(axis=0) for first, last in pairwise(edges)])


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers around a range."""
    span = max(high - low, 1e-12)
    step = 10 ** math.floor(math.log10(span / 3))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first = math.floor(low / step)
    return [round(number * step, 12) for number in range(first, math.ceil(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten around a range, and ones between where they are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1,) if last - first > 3 else (1, 2, 5)
    numbers = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    inside = [number for number in numbers if low <= number <= high]
    return inside if len(inside) >= 2 else [low, high]


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1e4 else f"{value:,.0f}"
