"""Random rotations of an image with its boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from srfgan.models.instance_masks import InstanceMask, MaskPatch, Polygons
from srfgan.models.structures import Target
from srfgan_cli.data.drawn import FILL, as_boxes, corners, pixel_bounds, seen, tight
from srfgan_cli.data.placement import draw_below

Size = tuple[int, int]


@dataclass(frozen=True)
class RotationPolicy:
    """How images are rotated.

    Attributes:
        quarter_turns: by 0 to 3 quarters of a turn, each as likely, which cut and blur nothing.
        degrees: and by an angle up to this, to either side.
    """

    quarter_turns: bool
    degrees: float

    def draw(self, size: Size, generator: torch.Generator) -> Rotation:
        """The random choices for one image of `size` (height, width), all from `generator`."""
        quarters = draw_below(4, generator)
        share = float(torch.rand(1, generator=generator, dtype=torch.float64))
        return Rotation(size, quarters * self.quarter_turns, (2 * share - 1) * self.degrees)


@dataclass(frozen=True)
class Rotation:
    """A turn against the clock, about the image's centre.

    The quarters turn the image's sides with it. By the angle that is added the content turns in a frame that stays:
    corners leave it, and others are filled.

    Attributes:
        source: height and width of the image before.
        quarters: 0..3 quarters of a turn.
        degrees: the angle that is added.
    """

    source: Size
    quarters: int
    degrees: float

    @property
    def size(self) -> Size:
        """Height and width of the image after."""
        height, width = self.source
        return (width, height) if self.quarters % 2 else (height, width)

    def image(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 to (3, h, w) uint8; bilinear, where the turn is not of quarters alone."""
        image = torch.rot90(image, self.quarters, (1, 2)).contiguous()
        if not self.degrees:
            return image
        turned: Tensor = functional.rotate(image, self.degrees, InterpolationMode.BILINEAR, fill=list(FILL))
        return turned

    def target(self, target: Target) -> Target:
        """The target, with masks, of the rotated image.

        Masks turn with the image. By quarters boxes do so, too; by another angle each is drawn anew around its turned
        mask, cut where the image ends, and dropped where nothing of it is left.
        """
        assert target.masks is not None
        masks = [self._by_quarters(mask) for mask in target.masks]
        boxes = [_extent(_turned(corners(box), *self._quarters)) for box in target.boxes.double().numpy()]
        if not self.degrees:
            return Target(as_boxes(boxes), target.labels, masks)
        both = [(number, self._by_angle(mask)) for number, mask in enumerate(masks)]
        rest = [(number, mask) for number, mask in both if mask is not None]
        around = as_boxes([mask.extent for _, mask in rest])
        return seen(
            Target(around, target.labels[[number for number, _ in rest]], [mask for _, mask in rest]),
            self.size,
        )

    @property
    def _quarters(self) -> tuple[float, Size, Size]:
        return 90.0 * self.quarters, self.source, self.size

    def _by_quarters(self, mask: InstanceMask) -> InstanceMask:
        if isinstance(mask, Polygons):
            return Polygons(tuple(_turned(part, *self._quarters) for part in mask.parts))
        pixels = np.ascontiguousarray(np.rot90(mask.pixels, self.quarters))
        left, top, right, bottom = np.roll(np.array(mask.at_border), -self.quarters).tolist()
        return MaskPatch(
            pixels, _extent(_turned(corners(mask.span), *self._quarters)), (left, top, right, bottom)
        )

    def _by_angle(self, mask: InstanceMask) -> InstanceMask | None:
        """None: not a pixel of it is left in the image."""
        if isinstance(mask, Polygons):
            return Polygons(tuple(_turned(part, self.degrees, self.size, self.size) for part in mask.parts))
        extent = _extent(_turned(corners(mask.span), self.degrees, self.size, self.size))
        low, high = pixel_bounds(extent, self.size)
        y, x = np.mgrid[low[1] : high[1], low[0] : high[0]] + 0.5
        back = _turned(np.stack([x, y], axis=-1), -self.degrees, self.size, self.size)  # (h, w, 2)
        return tight(_sampled(mask, back), (int(low[0]), int(low[1])), self.size)


def _sampled(patch: MaskPatch, points: np.ndarray) -> np.ndarray:
    """Whether the patch's pixel at each of the points (..., 2) x, y is set; nothing is outside."""
    rows, columns = patch.pixels.shape
    sides = np.array([columns, rows])
    place = np.floor((points - patch.span[:2]) / (patch.span[2:] - patch.span[:2]) * sides).astype(np.int64)
    inside = ((place >= 0) & (place < sides)).all(axis=-1)
    column, row = np.moveaxis(place.clip(0, sides - 1), -1, 0)
    found: np.ndarray = inside & (patch.pixels[row, column] > 0)
    return found


def _turned(points: np.ndarray, degrees: float, source: Size, size: Size) -> np.ndarray:
    """Points (..., 2) x, y of an image of `source` turned about its centre, which is then that of one of `size`."""
    quarters, rest = divmod(degrees, 90.0)
    cos, sin = np.cos(np.deg2rad(rest)), np.sin(np.deg2rad(rest))
    for _ in range(int(quarters) % 4):
        cos, sin = -sin, cos
    x, y = np.moveaxis(points - np.array(source[::-1]) / 2, -1, 0)
    turned: np.ndarray = np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1) + np.array(size[::-1]) / 2
    return turned


def _extent(points: np.ndarray) -> np.ndarray:
    """(4,) xyxy around (V, 2) points."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
