"""Smaller files for drawings of lines and text."""

from __future__ import annotations

from PIL import Image


def with_palette(drawing: Image.Image) -> Image.Image:
    """A drawing of lines and text in 256 colours of its own, at a third of the size.

    Not for photographs or maps of values: more colours than that mean something there.
    """
    # The k-means steps: without them, the rare colours of thin lines take on those of their neighbours.
    return drawing.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
