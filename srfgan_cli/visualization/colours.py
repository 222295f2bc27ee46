"""Colours that tell classes or instances apart."""

from __future__ import annotations

import colorsys

Colour = tuple[int, int, int]
"""Red, green, blue, 0..255."""

_GOLDEN_RATIO = 0.618033988749895
_DARKEST = 115.0
"""Luma that every colour has at least."""


def distinct_colour(index: int) -> Colour:
    """The colour of class or instance `index`: neighbours in the sequence differ most.

    Hues step by the golden ratio, which never repeats; lightness alternates over three values so that hues
    which do come close still differ. Dark hues (blue, violet) are lightened: they must show on black images.
    """
    hue = (0.02 + index * _GOLDEN_RATIO) % 1.0
    lightness = (0.58, 0.68, 0.50)[index % 3]
    red, green, blue = (255 * value for value in colorsys.hls_to_rgb(hue, lightness, 0.95))
    lift = max(0.0, (_DARKEST - _luma(red, green, blue)) / (255 - _luma(red, green, blue)))
    red, green, blue = (round(value + lift * (255 - value)) for value in (red, green, blue))
    return red, green, blue


def text_colour(background: Colour) -> Colour:
    """Black or white, whichever reads better on `background`."""
    return (0, 0, 0) if _luma(*background) >= _DARKEST else (255, 255, 255)


def _luma(red: float, green: float, blue: float) -> float:
    """Perceived brightness, 0..255 (ITU-R BT.601)."""
    return 0.299 * red + 0.587 * green + 0.114 * blue
