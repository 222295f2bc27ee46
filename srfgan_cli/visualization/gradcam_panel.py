"""Where the evidence for one object lies by several upsampling methods, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from srfgan_cli.visualization.gradcam import Evidence
from srfgan_cli.visualization.sheet import Sheet
from srfgan_cli.visualization.text import chart_fonts, chart_text

_HEAT = "inferno"
_BOX = "#4cc9f0"
_AROUND = 3.0
"""The part that is shown, of the boxes' size."""
_SMALLEST_WINDOW = 64
_NEARLY_WHOLE = 0.75

Window = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the image."""


@dataclass(frozen=True)
class Shown:
    """What a panel is about.

    Attributes:
        object: the class, as pictures call it.
        box: (4,) of the object that every method is asked for, in the image's pixels.
        level: the pyramid level; None for all of them together.
        note: a sentence for the reader, such as which methods are untrained.
    """

    object: str
    box: Tensor
    level: str | None
    note: str = ""


def gradcam_panel(image: Tensor, seen: Mapping[str, Evidence | None], shown: Shown) -> Image.Image:
    """Draw an image and the evidence for one of its objects by each method.

    First row: the image with the object, then each method's evidence on one colour scale over the image in grey, with
    the method's own box. Second row: what was done, then each map minus the first method's, on one diverging scale
    around 0. The maps show the part of the image around the object.

    Args:
        image: (3, H, W) uint8 RGB.
        seen: by method name; None where a method does not find the object.
        shown: what the panel is about.
    """
    compared = len(seen) > 1
    sheet = Sheet(
        1 + len(seen), 2 if compared else 1, image.shape[2] / image.shape[1], 0 if compared else 0.95
    )
    pixels = image.permute(1, 2, 0).cpu().numpy()
    window = _window(seen, shown.box, (image.shape[2], image.shape[1]))
    picture = sheet.panel(0, 0)
    picture.imshow(pixels, aspect="auto")
    _frame(picture, shown.box.tolist(), _BOX)
    zoomed = window != (0, 0, image.shape[2], image.shape[1])
    if zoomed:
        _frame(picture, window, "white", line=":")
    picture.set_title(
        f"best detection: {chart_text(shown.object)}", fontsize=11, fontfamily=chart_fonts([shown.object])
    )
    largest = max(max(float(each.map.max()) for each in seen.values() if each is not None), 1e-12)
    maps = {method: None if each is None else each.map.numpy() / largest for method, each in seen.items()}
    boxes = {method: None if each is None else each.box.tolist() for method, each in seen.items()}
    for column, (method, each) in enumerate(seen.items(), start=1):
        axes = sheet.panel(0, column)
        strength = maps[method]
        axes.imshow(
            _heated(pixels, np.zeros(pixels.shape[:2]) if strength is None else strength),
            aspect="auto",
            interpolation="bilinear",
        )
        _frame(axes, boxes[method] or shown.box.tolist(), _BOX, line="--" if each is None else "-")
        _zoom(axes, window)
        title = "does not find it" if each is None else f"score {100 * each.score:.0f} %"
        axes.set_title(f"{method}, {title}", fontsize=11)
    sheet.colour_bar(0, ScalarMappable(Normalize(0, 1), _HEAT))
    if compared:
        _draw_differences(sheet, maps, boxes, window)
        sheet.explain(1, _how(seen, shown, zoomed), *_table(seen))
    else:
        sheet.foot(_how(seen, shown, zoomed))
    return sheet.rendered()


def _window(seen: Mapping[str, Evidence | None], box: Tensor, size: tuple[int, int]) -> Window:
    """The part of an image of `size` (width, height) that maps show: of its proportions, around all boxes."""
    boxes = torch.stack([box, *(each.box for each in seen.values() if each is not None)])
    low, high = boxes[:, :2].amin(0), boxes[:, 2:].amax(0)
    whole = torch.tensor(size)
    share = min(max(float(((high - low) / whole).max()) * _AROUND, _SMALLEST_WINDOW / max(size)), 1.0)
    if share > _NEARLY_WHOLE:
        return (0, 0, *size)
    start = torch.minimum(((low + high - share * whole) / 2).clamp(min=0), (1 - share) * whole)
    x0, y0 = start.tolist()
    return (x0, y0, x0 + share * size[0], y0 + share * size[1])


def _heated(pixels: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """The image in dim grey under colours that are the more opaque the stronger they are, (H, W, 3) in 0..1."""
    grey = 0.7 * (pixels @ np.array([0.299, 0.587, 0.114]))[..., None] / 255
    opacity = np.clip(1.6 * strength, 0, 1)[..., None] ** 0.6
    heat: np.ndarray = colormaps[_HEAT](0.15 + 0.85 * strength)[..., :3]
    shown: np.ndarray = grey * (1 - opacity) + heat * opacity
    return shown


def _draw_differences(
    sheet: Sheet,
    maps: Mapping[str, np.ndarray | None],
    boxes: Mapping[str, list[float] | None],
    window: Window,
) -> None:
    (base, first), *others = maps.items()
    differences = {method: each - first for method, each in others if each is not None and first is not None}
    reach = max((float(np.abs(each).max()) for each in differences.values()), default=0.0)
    norm = Normalize(-max(reach, 1e-12), max(reach, 1e-12))
    for column, method in enumerate(maps, start=1):
        if method in differences:
            axes = sheet.panel(1, column)
            axes.imshow(
                differences[method], cmap="RdBu_r", norm=norm, aspect="auto", interpolation="bilinear"
            )
            _frame(axes, boxes[method] or [], "#444444")
            _zoom(axes, window)
            axes.set_title(f"{method} minus {base}", fontsize=11)
    if differences:
        sheet.colour_bar(1, ScalarMappable(norm, "RdBu_r"))


def _frame(axes: Axes, box: Sequence[float], colour: str, line: str = "-") -> None:
    x0, y0, x1, y1 = box
    corner = (x0 - 0.5, y0 - 0.5)  # matplotlib's pixels have their centres at whole numbers
    axes.add_patch(
        Rectangle(corner, x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.3, linestyle=line)
    )


def _zoom(axes: Axes, window: Window) -> None:
    x0, y0, x1, y1 = window
    axes.set_xlim(x0 - 0.5, x1 - 0.5)
    axes.set_ylim(y1 - 0.5, y0 - 0.5)


def _table(seen: Mapping[str, Evidence | None]) -> tuple[list[str], list[list[str]], list[float]]:
    """Header, rows and widths of the columns: score, evidence inside the box, and on which levels it lies."""
    cells = [
        [method, "-", "-", "-"]
        if each is None
        else [method, f"{100 * each.score:.1f} %", f"{100 * each.inside:.0f} %", _levels(each)]
        for method, each in seen.items()
    ]
    return ["method", "score", "in the box", "on level"], cells, [0.24, 0.14, 0.2, 0.42]


def _levels(each: Evidence) -> str:
    """The levels that hold a percent at least."""
    shares = [(level, round(100 * share)) for level, share in each.levels.items()]
    return ", ".join(f"{level.upper()} {percent} %" for level, percent in shares if percent)


def _how(seen: Mapping[str, Evidence | None], shown: Shown, zoomed: bool) -> list[str]:
    """What the pictures and numbers are; the numbers themselves of a single method, which has no table."""
    level = "all pyramid levels" if shown.level is None else shown.level.upper()
    words = f"Grad-CAM on {level}: gradient of the score's log-odds times map, positive part."
    if len(seen) > 1:
        words += " One scale per row. In the box: the share of it inside the method's own box."
    if zoomed:
        words += " Dotted: what the maps show."
    numbers = [
        f"{name}: {100 * each.inside:.0f} % of it in the box; on {_levels(each)}."
        for name, each in seen.items()
        if each is not None and len(seen) == 1
    ]
    return [words, *numbers, *([shown.note[0].upper() + shown.note[1:]] if shown.note else [])]
