"""Random colours: brightness, contrast, saturation and hue, as torchvision changes them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from srfgan.models.structures import Target


@dataclass(frozen=True)
class ColourPolicy:
    """How much an image's colours may change (torchvision's ColorJitter, in its documented order).

    Attributes:
        probability: of a change at all.
        brightness, contrast, saturation: 0..1; factors are drawn from 1 less to 1 more than these.
        hue: 0..0.5; the turn of the colour wheel is drawn from so much to either side.
    """

    probability: float
    brightness: float
    contrast: float
    saturation: float
    hue: float

    def draw(self, generator: torch.Generator) -> Colours | None:
        """The random choices for one image, all from `generator`; None: no change."""
        chance, *numbers = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        if chance >= self.probability:
            return None
        spreads = (self.brightness, self.contrast, self.saturation, self.hue)
        brightness, contrast, saturation, hue = (
            (2 * number - 1) * spread for number, spread in zip(numbers, spreads, strict=True)
        )
        return Colours(1 + brightness, 1 + contrast, 1 + saturation, hue)


@dataclass(frozen=True)
class Colours:
    """Factors, and the turn of the colour wheel in whole turns."""

    brightness: float
    contrast: float
    saturation: float
    hue: float

    def image(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 to (3, H, W) uint8."""
        image = functional.adjust_brightness(image, self.brightness)
        image = functional.adjust_contrast(image, self.contrast)
        image = functional.adjust_saturation(image, self.saturation)
        changed: Tensor = functional.adjust_hue(image, self.hue) if self.hue else image
        return changed

    def target(self, target: Target) -> Target:
        """The same target: colours move nothing."""
        return target
