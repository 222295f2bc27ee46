"""The mask of one object, on the CPU: its outline, or its pixels cut out of the image. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class MaskPatch:
    """A binary mask, cut out of its image, with the place where it belongs.

    Resizing an image only moves `span`; the pixels are never resampled until a head asks for its target.

    Attributes:
        pixels: (h, w) uint8, 0 or 1.
        span: (4,) float64, xyxy of the patch's outer edges, in pixels of the (resized, flipped) image.
        at_border: which of these edges (left, top, right, bottom) are the image's own.
    """

    pixels: np.ndarray
    span: np.ndarray
    at_border: tuple[bool, bool, bool, bool] = (False, False, False, False)

    @property
    def extent(self) -> np.ndarray:
        """(4,) float64 xyxy around the mask."""
        return self.span

    def moved(self, x: float, y: float) -> MaskPatch:
        """The mask moved right by `x` and down by `y` pixels."""
        return replace(self, span=self.span + np.array([x, y, x, y]))


@dataclass(frozen=True)
class Polygons:
    """An instance's outline: one or more polygons whose union is the mask.

    Attributes:
        parts: arrays (V, 2) float64 of x, y in image pixels, at least three vertices each.
    """

    parts: tuple[np.ndarray, ...]

    @property
    def extent(self) -> np.ndarray:
        """(4,) float64 xyxy around the mask."""
        low, high = (np.array([end(part, axis=0) for part in self.parts]) for end in (np.min, np.max))
        return np.concatenate([low.min(axis=0), high.max(axis=0)])

    def moved(self, x: float, y: float) -> Polygons:
        """The mask moved right by `x` and down by `y` pixels."""
        return Polygons(tuple(part + np.array([x, y]) for part in self.parts))


InstanceMask = Polygons | MaskPatch


def scaled_mask(mask: InstanceMask, scale_x: float, scale_y: float) -> InstanceMask:
    """The mask of the same image resized by (`scale_x`, `scale_y`)."""
    if isinstance(mask, Polygons):
        return Polygons(tuple(part * np.array([scale_x, scale_y]) for part in mask.parts))
    return replace(mask, span=mask.span * np.array([scale_x, scale_y, scale_x, scale_y]))
