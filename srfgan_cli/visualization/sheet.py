"""Figures of equal panels in rows and columns, with what they show in words and numbers below."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

_DPI = 130
_NARROWEST = 1 / 8
"""Least width by height of a panel. A narrower strip is shown wider: in its own shape, one of a pixel's width
would take gigabytes and minutes."""


class Sheet:
    """A figure of equal panels in rows and columns, with a title line over each; all sizes in inches."""

    title = 0.32
    gap = 0.1
    bar = 0.15

    def __init__(self, columns: int, rows: int, aspect: float, footer: float) -> None:
        self.width = min(max(3.4 * aspect, 2.5), 3.6)
        self.height = self.width / max(aspect, _NARROWEST)
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

    def explain(
        self,
        row: int,
        sentences: Sequence[str],
        header: Sequence[str],
        cells: Sequence[Sequence[str]],
        widths: Sequence[float],
    ) -> None:
        """Sentences, and a table below them, in place of a row's first two panels.

        Args:
            row: of the sheet.
            sentences: each begins a line.
            header: of the table's columns.
            cells: its rows.
            widths: of its columns, 1 together.
        """
        axes = self.panel(row, 0, span=2)
        axes.set_axis_off()
        text = wrapped(sentences, round(26 * self.width))
        axes.text(0.01, 1.0, text, fontsize=10, va="top", linespacing=1.5)
        below_text = 1.0 - (0.21 * (text.count("\n") + 1) + 0.2) / self.height
        table_height = min(0.25 * (len(cells) + 1) / self.height, below_text)
        table = axes.table(
            cells,
            colLabels=header,
            cellLoc="right",
            colLoc="right",
            edges="horizontal",
            bbox=Bbox.from_bounds(0.01, below_text - table_height, 0.94, table_height),
            colWidths=widths,
        )
        table.auto_set_font_size(False)
        table.set_fontsize(9.5)

    def foot(self, sentences: Sequence[str]) -> None:
        """Sentences in the footer of a sheet of one row."""
        self.figure.text(0.015, 0.03, wrapped(sentences, 85), fontsize=9, va="bottom", linespacing=1.4)

    def rendered(self) -> Image.Image:
        """The sheet as a picture."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        buffer.seek(0)
        return Image.open(buffer).convert("RGB")

    def _axes(self, left: float, row: int, width: float) -> Axes:
        bottom = self.size[1] - (row + 1) * (self.height + self.title)
        across, up = self.size
        return self.figure.add_axes((left / across, bottom / up, width / across, self.height / up))


def wrapped(sentences: Sequence[str], width: int) -> str:
    """Sentences in lines of at most `width` characters, each on a line of its own."""
    return "\n".join(line for sentence in sentences for line in textwrap.wrap(sentence, width))
