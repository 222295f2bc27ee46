"""The pair of stages 1 and 2: an image and its half-size version (SRF-GAN paper, section 3.2, table 6).

The half is made from the image that the model gets, after every random choice, so the two always share
those; the published code draws them anew for each.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from srfgan.models.structures import Target
from srfgan_cli.presets.config import Interpolation

INTERPOLATION_MODES = {"nn": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"}
"""torch's name of each degradation."""


def halve(images: list[Tensor], degradation: Interpolation) -> list[Tensor]:
    """Images at half their size, on the device where they are.

    The scale is exactly one half also for odd sizes, whose last row or column is left out, so that pixel
    i of the half covers pixels 2i and 2i + 1. No antialiasing, as in the published code.

    Args:
        images: (3, H, W) uint8 or float, 0..255, at least 2 pixels each way.
        degradation: how to interpolate.

    Returns:
        (3, H // 2, W // 2) float32 each, 0..255.
    """
    mode = INTERPOLATION_MODES[degradation]
    return [
        functional.interpolate(image[None].float(), scale_factor=0.5, mode=mode)[0].clamp(0, 255)
        for image in images
    ]


def halve_targets(targets: list[Target]) -> list[Target]:
    """The ground truth of the halved images.

    A box that ends at an odd border reaches half a pixel beyond the halved image; it is left so, because
    cutting it could make it empty.
    """
    return [target.scaled(0.5, 0.5) for target in targets]
