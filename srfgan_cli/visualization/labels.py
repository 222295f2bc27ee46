"""Text labels beside boxes that never cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from srfgan_cli.visualization.colours import Colour, text_colour
from srfgan_cli.visualization.text import Lettering

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """A text that belongs to a box.

    Attributes:
        text: one line.
        box: xyxy in pixels.
        colour: of the label's background.
    """

    text: str
    box: Box
    colour: Colour


def draw_labels(
    draw: ImageDraw.ImageDraw, labels: Sequence[Label], letters: Lettering, size: tuple[int, int]
) -> int:
    """Draw labels, most important first, each where it covers no other; returns how many found a place.

    A label is tried above its box, below it and inside its corners. In a crowd it is left out rather than
    drawn over another or over more than a third of its own object; so is one wider than the picture.

    Args:
        draw: what to draw on.
        labels: in order of importance.
        letters: their size.
        size: (width, height) of the picture.
    """
    taken = np.zeros((0, 4))
    drawn = 0
    for label in labels:
        left, top, right, bottom = letters.bounds(label.text)
        pad = max(2.0, letters.size / 6)
        width, height = right - left + 2 * pad, bottom - top + 2 * pad
        place = _free_place(label.box, width, height, taken, size)
        if place is None:
            continue
        taken = np.concatenate([taken, [place]])
        draw.rectangle(place, fill=(*label.colour, 225))
        origin = (place[0] + pad - left, place[1] + pad - top)
        letters.draw(draw, origin, label.text, (*text_colour(label.colour), 255))
        drawn += 1
    return drawn


def _free_place(
    box: Box, width: float, height: float, taken: np.ndarray, size: tuple[int, int]
) -> Box | None:
    if width > size[0]:
        return None
    x1, y1, x2, y2 = box
    outside = [(x1, y1 - height), (x2 - width, y1 - height), (x1, y2), (x2 - width, y2)]
    inside = [(x1, y1), (x2 - width, y1), (x1, y2 - height), (x2 - width, y2 - height)]
    roomy = width * height * 3 <= (x2 - x1) * (y2 - y1)
    for x, y in [*outside, *(inside if roomy else [])]:
        x = min(max(x, 0), size[0] - width)
        place = (x, y, x + width, y + height)
        if 0 <= y <= size[1] - height and not _overlaps(place, taken):
            return place
    return None


def _overlaps(place: Box, taken: np.ndarray) -> bool:
    x1, y1, x2, y2 = place
    apart = (taken[:, 0] >= x2) | (taken[:, 2] <= x1) | (taken[:, 1] >= y2) | (taken[:, 3] <= y1)
    return bool((~apart).any())
