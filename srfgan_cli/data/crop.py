"""Random crops of an image and its target, as DETR has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from srfgan.models.structures import Target
from srfgan_cli.data.placement import Placement, Window, draw_below, resized

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
        side = self.short_sides[draw_below(len(self.short_sides), generator)]
        first = Placement(size, resized(size, side, _LONGEST_SIDE), flipped=False)
        height, width = (self._extent(side, generator) for side in first.size)
        top = draw_below(first.size[0] - height + 1, generator)
        left = draw_below(first.size[1] - width + 1, generator)
        return Crop(first, (top, left), (height, width))

    def _extent(self, side: int, generator: torch.Generator) -> int:
        low, high = min(side, self.smallest), min(side, self.largest)
        return low + draw_below(high - low + 1, generator)


class Crop(Window):
    """A window that lies within the resized image."""

    def target(self, target: Target) -> Target:
        """The target of the window: boxes are cut at its border, and objects of whose box nothing is left are dropped.

        A box is not drawn anew around what is left of its mask, as in DETR. Masks keep what lies outside the window,
        which no box reaches.
        """
        height, width = self.size
        moved = self.moved(target)
        limit = moved.boxes.new_tensor([width, height, width, height])
        boxes = torch.minimum(moved.boxes.clamp(min=0), limit)
        kept = (boxes[:, 2:] - boxes[:, :2] > _THINNEST).all(dim=1)
        masks = moved.masks
        if masks is not None:
            masks = [mask for mask, keep in zip(masks, kept.tolist(), strict=True) if keep]
        return Target(boxes[kept], moved.labels[kept], masks)
