"""One pyramid level by several upsampling methods, side by side (SRF-GAN paper, figure 2)."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from torch import Tensor

_DPI = 130


@dataclass(frozen=True)
class _Map:
    """One map: `strength` (h, w) is the channel mean of |activation|, `sharpness` its mean gradient."""

    method: str
    strength: np.ndarray
    sharpness: float


class _Sheet:
    """A figure of equal panels in rows and columns, with a title line over each; all sizes in inches."""

    title = 0.32
    gap = 0.1
    bar = 0.15

    def __init__(self, columns: int, rows: int, aspect: float, footer: float) -> None:
        self.width = min(max(3.4 * aspect, 2.5), 3.6)
        self.height = self.width / aspect
        self.size = (
            columns * (self.width + self.gap) + self.gap + self.bar + 0.55,
            rows * (self.height + self.title) + self.gap + footer,
        )
        self.columns = columns
        self.figure = Figure(figsize=self.size, dpi=_DPI)
        FigureCanvasAgg(self.figure)

    def panel(self, row: int, column: int, *, span: int = 1) -> Axes:
        """Empty axes without ticks over `span` columns."""
        left = self.gap + column * (self.width + self.gap)
        axes = self._axes(left, row, span * (self.width + self.gap) - self.gap)
        axes.set_xticks([])
        axes.set_yticks([])
        return axes

    def colour_bar(self, row: int, colours: ScalarMappable) -> None:
        """The colour scale of a row, at its right end."""
        axes = self._axes(self.gap + self.columns * (self.width + self.gap), row, self.bar)
        self.figure.colorbar(colours, cax=axes)
        axes.tick_params(labelsize=8)

    def _axes(self, left: float, row: int, width: float) -> Axes:
        bottom = self.size[1] - (row + 1) * (self.height + self.title)
        across, up = self.size
        return self.figure.add_axes((left / across, bottom / up, width / across, self.height / up))


def p2_panel(image: Tensor, maps: Mapping[str, Tensor], *, level: str = "p2", note: str = "") -> Image.Image:
    """Draw an image and one pyramid level by each method.

    First row: the image, then each map (mean over channels of the absolute activation) on one colour scale.
    Second row: what was done, then each map minus the first method's, on one diverging scale around 0.

    Args:
        image: (3, H, W) uint8 RGB.
        maps: (C, h, w) float by method name, all of one size; the first is the one others are compared with.
        level: name of the pyramid level, for the titles.
        note: a sentence for the reader, such as which weights were used.
    """
    shown = [_summary(method, features) for method, features in maps.items()]
    compared = len(shown) > 1
    aspect = image.shape[2] / image.shape[1]
    sheet = _Sheet(1 + len(shown), 2 if compared else 1, aspect, footer=0 if compared else 0.8)
    picture = sheet.panel(0, 0)
    picture.imshow(image.permute(1, 2, 0).cpu().numpy(), aspect="auto")
    picture.set_title(f"image, {image.shape[2]} x {image.shape[1]}", fontsize=11)
    _draw_strengths(sheet, shown, level)
    if compared:
        _draw_differences(sheet, shown)
        _explain(sheet, shown, level, note)
    else:
        text = _how(shown, level, note, width=85)
        sheet.figure.text(0.015, 0.03, text, fontsize=9, va="bottom", linespacing=1.4)
    return _rendered(sheet.figure)


def _summary(method: str, features: Tensor) -> _Map:
    strength = features.detach().float().abs().mean(dim=0).cpu().numpy()
    steps_down, steps_right = np.diff(strength, axis=0)[:, :-1], np.diff(strength, axis=1)[:-1]
    sharpness = float(np.hypot(steps_down, steps_right).mean()) if steps_down.size else 0.0
    return _Map(method, strength, sharpness)


def _draw_strengths(sheet: _Sheet, shown: list[_Map], level: str) -> None:
    # Percentiles, here and below: a few extreme pixels must not wash out the rest.
    values = np.concatenate([each.strength for each in shown], axis=None)
    low, high = (float(value) for value in np.percentile(values, [0.5, 99.5]))
    norm = Normalize(low, max(high, low + 1e-12))
    for column, each in enumerate(shown, start=1):
        axes = sheet.panel(0, column)
        axes.imshow(each.strength, cmap="viridis", norm=norm, aspect="auto", interpolation="nearest")
        size = f"{each.strength.shape[1]} x {each.strength.shape[0]}"
        axes.set_title(f"{level.upper()} with {each.method}, {size}", fontsize=11)
    sheet.colour_bar(0, ScalarMappable(norm, "viridis"))


def _draw_differences(sheet: _Sheet, shown: list[_Map]) -> None:
    base = shown[0]
    differences = [each.strength - base.strength for each in shown[1:]]
    reach = max(float(np.percentile(np.abs(np.concatenate(differences, axis=None)), 99.5)), 1e-12)
    norm = Normalize(-reach, reach)
    for column, (each, difference) in enumerate(zip(shown[1:], differences, strict=True), start=2):
        axes = sheet.panel(1, column)
        axes.imshow(difference, cmap="RdBu_r", norm=norm, aspect="auto", interpolation="nearest")
        axes.set_title(f"{each.method} minus {base.method}", fontsize=11)
    sheet.colour_bar(1, ScalarMappable(norm, "RdBu_r"))


def _explain(sheet: _Sheet, shown: list[_Map], level: str, note: str) -> None:
    """Write what the pictures show, and three numbers per method, under the first two pictures."""
    axes = sheet.panel(1, 0, span=2)
    axes.set_axis_off()
    base = shown[0]
    text = _how(shown, level, note, width=round(26 * sheet.width))
    axes.text(0.01, 1.0, text, fontsize=10, va="top", linespacing=1.5)
    cells = [
        [
            each.method,
            f"{each.strength.mean():.4g}",
            f"{each.sharpness / max(base.sharpness, 1e-12):.2f}",
            f"{np.abs(each.strength - base.strength).mean():.3g}",
        ]
        for each in shown
    ]
    below_text = 1.0 - (0.21 * (text.count("\n") + 1) + 0.2) / sheet.height
    table_height = min(0.25 * (len(shown) + 1) / sheet.height, below_text)
    table = axes.table(
        cells,
        colLabels=["method", "mean", "sharpness", f"|map - {base.method}|"],
        cellLoc="right",
        colLoc="right",
        edges="horizontal",
        bbox=Bbox.from_bounds(0.01, below_text - table_height, 0.94, table_height),
        colWidths=[0.22, 0.22, 0.24, 0.32],
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9.5)


def _how(shown: list[_Map], level: str, note: str, width: int) -> str:
    """What the pictures and numbers are, in lines of at most `width` characters."""
    sentences = [f"{level.upper()}: mean over channels of |activation|, one colour scale per row."]
    if len(shown) > 1:
        sentences.append(f"Sharpness: mean gradient of the map, relative to {shown[0].method}.")
    sentences += [note[0].upper() + note[1:]] if note else []
    return "\n".join(line for sentence in sentences for line in textwrap.wrap(sentence, width))


def _rendered(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")
