"""Where an image goes: another size, and maybe mirrored; detectron2's rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from srfgan.models.instance_masks import InstanceMask, MaskPatch, Polygons
from srfgan.models.structures import Target

SMALLEST_SIDE = 2  # so that half of it is still an image

# There torch resizes pixels of three bytes in less than half the time of channels, if the batch has the strides of
# channels last, which `image[None]` has not. Elsewhere channels take two thirds of the time.
_PIXEL_BY_PIXEL = torch.backends.cpu.get_cpu_capability().startswith("AVX")


def draw_below(count: int, generator: torch.Generator) -> int:
    """One of 0 .. count - 1."""
    return int(torch.randint(count, (1,), generator=generator))


def resized(size: tuple[int, int], short_side: int, max_side: int) -> tuple[int, int]:
    """The size whose short side is `short_side`, or whose long side is `max_side` if that is smaller.

    Rounded in detectron2's order: the short side first, and then, if need be, both by the long one.

    Args:
        size: height and width in pixels.
        short_side: wanted pixels of the short side.
        max_side: limit of the long side in pixels.
    """
    scale = short_side / min(size)
    sides = [short_side if side == min(size) else side * scale for side in size]
    if max(sides) > max_side:
        shrunk = max_side / max(sides)
        sides = [side * shrunk for side in sides]
    height, width = (max(SMALLEST_SIDE, int(side + 0.5)) for side in sides)
    return height, width


@dataclass(frozen=True)
class Placement:
    """Where an image goes: from `source` to `size` (both height, width), then mirrored if `flipped`."""

    source: tuple[int, int]
    size: tuple[int, int]
    flipped: bool

    def image(self, image: Tensor) -> Tensor:
        """The resized, flipped image: (3, H, W) uint8 to (3, h, w) uint8, in memory as it was, mostly pixel by pixel.

        Bilinear with antialiasing, which is what Pillow's and detectron2's bilinear is.
        """
        first = self.flipped and self.size > self.source  # mirrored while it has fewer pixels
        image = image.flip(2) if first else image
        if self.size != self.source:
            image = _resize(image if image.device.type == "cpu" else image.float(), self.size)
        return image.flip(2) if self.flipped and not first else image

    def target(self, target: Target) -> Target:
        """The target of the resized, flipped image."""
        scale_y, scale_x = self.size[0] / self.source[0], self.size[1] / self.source[1]
        target = target.scaled(scale_x, scale_y)
        return _mirrored(target, self.size[1]) if self.flipped else target

    def boxes(self, boxes: Tensor) -> Tensor:
        """`boxes` (R, 4) xyxy of the source image in the resized, flipped one."""
        return self.target(Target(boxes, boxes.new_empty(0))).boxes

    def source_boxes(self, boxes: Tensor) -> Tensor:
        """The inverse of `boxes`."""
        back = Placement(self.size, self.source, self.flipped)
        return back.boxes(boxes)


@dataclass(frozen=True)
class Window:
    """A window of a resized image.

    Attributes:
        first: how the image is resized, and maybe mirrored, before.
        corner: top and left of the window, in pixels of the resized image.
        size: height and width of the window.
    """

    first: Placement
    corner: tuple[int, int]
    size: tuple[int, int]

    def image(self, image: Tensor) -> Tensor:
        """The window's pixels, as far as the image reaches: (3, H, W) uint8 to (3, h, w) uint8."""
        (top, left), (height, width) = self.corner, self.size
        return self.first.image(image)[:, top : top + height, left : left + width]

    def moved(self, target: Target) -> Target:
        """The resized image's target in pixels of the window; nothing is cut."""
        top, left = self.corner
        return self.first.target(target).moved(-left, -top)


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) of 0..255 to (3, h, w) uint8; torch resizes bytes, and a little faster, on CPUs only."""
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2) if _PIXEL_BY_PIXEL else image[None]
    image = functional.interpolate(batch, size, mode="bilinear", antialias=True)[0]
    return image if image.dtype == torch.uint8 else image.round_().clamp_(0, 255).to(torch.uint8)


def _mirrored(target: Target, width: int) -> Target:
    x1, y1, x2, y2 = target.boxes.unbind(1)
    boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
    masks = None if target.masks is None else [_mirrored_mask(mask, width) for mask in target.masks]
    return Target(boxes, target.labels, masks)


def _mirrored_mask(mask: InstanceMask, width: int) -> InstanceMask:
    if isinstance(mask, Polygons):
        # Reversed as well, so that the outline keeps its sense of rotation.
        return Polygons(tuple((part * [-1, 1] + [width, 0])[::-1] for part in mask.parts))
    x1, y1, x2, y2 = mask.span
    # A copy in any case: one column turned round counts as contiguous, and torch refuses its negative stride.
    pixels = mask.pixels[:, ::-1].copy()
    left, top, right, bottom = mask.at_border
    return MaskPatch(pixels, np.array([width - x2, y1, width - x1, y2]), (right, top, left, bottom))
