"""What happens to an image and its target alike before a model gets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from srfgan.models.structures import Target
from srfgan_cli.data.colours import ColourPolicy
from srfgan_cli.data.crop import CropPolicy
from srfgan_cli.data.placement import Placement, draw_below, resized
from srfgan_cli.data.rotation import RotationPolicy
from srfgan_cli.data.scale_jitter import ScaleJitterPolicy


class Step(Protocol):
    """One change of an image, drawn already."""

    def image(self, image: Tensor) -> Tensor:
        """The changed image: (3, H, W) uint8 to (3, h, w) uint8."""

    def target(self, target: Target) -> Target:
        """The target of the changed image."""


@dataclass(frozen=True)
class Steps:
    """Changes one after the other."""

    steps: tuple[Step, ...]

    def image(self, image: Tensor) -> Tensor:
        """The image after all of them: (3, H, W) uint8 to (3, h, w) uint8."""
        for step in self.steps:
            image = step.image(image)
        return image

    def target(self, target: Target) -> Target:
        """The target after all of them."""
        for step in self.steps:
            target = step.target(target)
        return target


@dataclass(frozen=True)
class ResizePolicy:
    """How images are resized and flipped, and what else happens to them at random.

    Attributes:
        short_sides: pixels; one is drawn for each image.
        max_side: pixels; the long side never exceeds it.
        flip: probability of a horizontal flip.
        rotation: what happens to an image first, if anything.
        crop: and then, before it is resized.
        scale_jitter: how it is resized instead of to one of `short_sides`.
        colours: what happens to its colours at the end.
        mosaic: probability that four images are made one before all that.
        copy_paste: probability that objects of another image are pasted over it after that.
    """

    short_sides: tuple[int, ...]
    max_side: int
    flip: float = 0.0
    rotation: RotationPolicy | None = None
    crop: CropPolicy | None = None
    scale_jitter: ScaleJitterPolicy | None = None
    colours: ColourPolicy | None = None
    mosaic: float = 0.0
    copy_paste: float = 0.0

    @property
    def needs_masks(self) -> bool:
        """Whether targets must have masks, because boxes are drawn anew around them."""
        return bool(self.rotation or self.scale_jitter or self.mosaic or self.copy_paste)

    def draw(self, size: tuple[int, int], generator: torch.Generator) -> Steps:
        """The random choices for one image of `size` (height, width), all from `generator`."""
        side = self.short_sides[draw_below(len(self.short_sides), generator)]
        flipped = bool(torch.rand(1, generator=generator) < self.flip)
        steps: list[Step | None] = []
        if self.rotation:
            rotation = self.rotation.draw(size, generator)
            size = rotation.size
            steps.append(rotation)
        if self.crop and (crop := self.crop.draw(size, generator)):
            size = crop.size
            steps.append(crop)
        if self.scale_jitter:
            steps.append(self.scale_jitter.draw(size, flipped, generator))
        else:
            steps.append(Placement(size, resized(size, side, self.max_side), flipped))
        if self.colours:
            steps.append(self.colours.draw(generator))
        return Steps(tuple(step for step in steps if step is not None))


@dataclass(frozen=True)
class OriginalSize:
    """In the place of a `ResizePolicy`: images as their files have them."""

    needs_masks: ClassVar[bool] = False
    mosaic: ClassVar[float] = 0.0
    copy_paste: ClassVar[float] = 0.0

    def draw(self, size: tuple[int, int], generator: torch.Generator) -> Placement:
        """The placement that changes nothing; `generator` is not used."""
        return Placement(size, size, flipped=False)
