"""Large-scale jitter: a random size, then a window of always the same (Ghiasi et al., Simple Copy-Paste, 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from srfgan.models.structures import Target
from srfgan_cli.data.drawn import FILL, seen
from srfgan_cli.data.placement import SMALLEST_SIDE, Placement, Window, draw_below


@dataclass(frozen=True)
class ScaleJitterPolicy:
    """How images are resized, and cropped or padded to a square.

    Attributes:
        smallest, largest: the factor is drawn from between these; at 1 an image just fits into the square.
        size: side of the square in pixels.
    """

    smallest: float
    largest: float
    size: int

    def draw(self, size: tuple[int, int], flipped: bool, generator: torch.Generator) -> Frame:
        """The random choices for one image of `size` (height, width), all from `generator`."""
        share = float(torch.rand(1, generator=generator, dtype=torch.float64))
        factor = self.smallest + share * (self.largest - self.smallest)
        scale = factor * self.size / max(size)
        height, width = (max(SMALLEST_SIDE, round(side * scale)) for side in size)
        top, left = (draw_below(max(side - self.size, 0) + 1, generator) for side in (height, width))
        return Frame(Placement(size, (height, width), flipped), (top, left), (self.size, self.size))


class Frame(Window):
    """A window that is filled where it reaches beyond the resized image's right and lower border."""

    def image(self, image: Tensor) -> Tensor:
        """The window's pixels: (3, H, W) uint8 to (3, h, w) uint8."""
        part = super().image(image)
        missing = [0, 0, self.size[1] - part.shape[2], self.size[0] - part.shape[1]]
        framed: Tensor = functional.pad(part, missing, fill=list(FILL)) if any(missing) else part.contiguous()
        return framed

    def target(self, target: Target) -> Target:
        """The target, with masks, of the window: `seen`."""
        return seen(self.moved(target), self.size)
