"""Resize and flip, and maybe crop first, for an image and its target alike; detectron2's and DETR's recipes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from srfgan.models.structures import InstanceMask, MaskPatch, Polygons, Target
from srfgan_cli.data.colours import ColourPolicy, Colours

_SMALLEST_SIDE = 2  # so that half of it is still an image
_LONGEST_SIDE = (
    32_768  # of an image to be cropped: a strip of 1 x 20000 pixels would become 7 billion of them
)
_THINNEST = 1e-3  # pixels; of a thinner rest of a box float32 leaves nothing


@dataclass(frozen=True)
class CropPolicy:
    """How images are cropped before they are resized (DETR, section 4; the sizes are its code's).

    Attributes:
        probability: of a crop at all.
        short_sides: pixels; the image is resized to one of them to be cropped.
        smallest, largest: pixels; height and width of the crop are drawn from these, both included, each for itself. An
            image that is smaller stays as it is in that direction.
    """

    probability: float
    short_sides: tuple[int, ...]
    smallest: int
    largest: int

    def draw(self, size: tuple[int, int], generator: torch.Generator) -> Crop | None:
        """The random choices for one image of `size` (height, width), all from `generator`; None: no crop."""
        if torch.rand(1, generator=generator) >= self.probability:
            return None
        side = self.short_sides[_draw(len(self.short_sides), generator)]
        first = Placement(size, resized(size, side, _LONGEST_SIDE), flipped=False)
        height, width = (self._extent(side, generator) for side in first.size)
        top = _draw(first.size[0] - height + 1, generator)
        left = _draw(first.size[1] - width + 1, generator)
        return Crop(first, (top, left), (height, width))

    def _extent(self, side: int, generator: torch.Generator) -> int:
        low, high = min(side, self.smallest), min(side, self.largest)
        return low + _draw(high - low + 1, generator)


@dataclass(frozen=True)
class ResizePolicy:
    """How images are resized and flipped.

    Attributes:
        short_sides: pixels; one is drawn for each image.
        max_side: pixels; the long side never exceeds it.
        flip: probability of a horizontal flip.
        crop: what happens to an image before that, if anything.
        colours: and to its colours after that.
    """

    short_sides: tuple[int, ...]
    max_side: int
    flip: float = 0.0
    crop: CropPolicy | None = None
    colours: ColourPolicy | None = None

    def draw(
        self, size: tuple[int, int], generator: torch.Generator
    ) -> Placement | CroppedPlacement | ColouredPlacement:
        """The random choices for one image of `size` (height, width), all from `generator`."""
        side = self.short_sides[_draw(len(self.short_sides), generator)]
        flipped = bool(torch.rand(1, generator=generator) < self.flip)
        crop = self.crop.draw(size, generator) if self.crop else None
        source = crop.size if crop else size
        placement = Placement(source, resized(source, side, self.max_side), flipped)
        placed = CroppedPlacement(crop, placement) if crop else placement
        colours = self.colours.draw(generator) if self.colours else None
        return ColouredPlacement(placed, colours) if colours else placed


def _draw(count: int, generator: torch.Generator) -> int:
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
    height, width = (max(_SMALLEST_SIDE, int(side + 0.5)) for side in sides)
    return height, width


@dataclass(frozen=True)
class OriginalSize:
    """In the place of a `ResizePolicy`: images as their files have them."""

    def draw(self, size: tuple[int, int], generator: torch.Generator) -> Placement:
        """The placement that changes nothing; `generator` is not used."""
        return Placement(size, size, flipped=False)


@dataclass(frozen=True)
class Placement:
    """Where an image goes: from `source` to `size` (both height, width), then mirrored if `flipped`."""

    source: tuple[int, int]
    size: tuple[int, int]
    flipped: bool

    def image(self, image: Tensor) -> Tensor:
        """The resized, flipped image: (3, H, W) uint8 to (3, h, w) uint8.

        Bilinear with antialiasing, which is what Pillow's and detectron2's bilinear is.
        """
        if self.size != self.source:
            image = _resize(image if image.device.type == "cpu" else image.float(), self.size)
        return image.flip(2) if self.flipped else image.contiguous()

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
class Crop:
    """A window of a resized image.

    Attributes:
        first: how the image is resized before.
        corner: top and left of the window, in pixels of the resized image.
        size: height and width of the window.
    """

    first: Placement
    corner: tuple[int, int]
    size: tuple[int, int]

    def image(self, image: Tensor) -> Tensor:
        """The window's pixels: (3, H, W) uint8 to (3, h, w) uint8."""
        (top, left), (height, width) = self.corner, self.size
        return self.first.image(image)[:, top : top + height, left : left + width]

    def target(self, target: Target) -> Target:
        """The target of the window: boxes are cut at its border, and objects of whose box nothing is left are dropped.

        A box is not drawn anew around what is left of its mask, as in DETR. Masks keep what lies outside the window,
        which no box reaches.
        """
        (top, left), (height, width) = self.corner, self.size
        moved = self.first.target(target).moved(-left, -top)
        limit = moved.boxes.new_tensor([width, height, width, height])
        boxes = torch.minimum(moved.boxes.clamp(min=0), limit)
        kept = (boxes[:, 2:] - boxes[:, :2] > _THINNEST).all(dim=1)
        masks = moved.masks
        if masks is not None:
            masks = [mask for mask, keep in zip(masks, kept.tolist(), strict=True) if keep]
        return Target(boxes[kept], moved.labels[kept], masks)


@dataclass(frozen=True)
class CroppedPlacement:
    """Where a part of an image goes: what `crop` leaves of it is placed."""

    crop: Crop
    placement: Placement

    def image(self, image: Tensor) -> Tensor:
        """The cropped, resized, flipped image: (3, H, W) uint8 to (3, h, w) uint8."""
        return self.placement.image(self.crop.image(image))

    def target(self, target: Target) -> Target:
        """The target of the cropped, resized, flipped image, with the objects that are seen in it."""
        return self.placement.target(self.crop.target(target))


@dataclass(frozen=True)
class ColouredPlacement:
    """Where an image goes, and with which colours."""

    placement: Placement | CroppedPlacement
    colours: Colours

    def image(self, image: Tensor) -> Tensor:
        """The placed image in its new colours: (3, H, W) uint8 to (3, h, w) uint8."""
        return self.colours.image(self.placement.image(image))

    def target(self, target: Target) -> Target:
        """The target of the placed image."""
        return self.placement.target(target)


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) of 0..255 to (3, h, w) uint8; torch resizes bytes, and a little faster, on CPUs only."""
    image = functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
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
