"""Mosaic: four images around a point, as one (Bochkovskiy et al., YOLOv4, 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from srfgan.models.structures import Target
from srfgan_cli.data.drawn import seen
from srfgan_cli.data.placement import Placement, draw_below


def draw_centre(size: tuple[int, int], generator: torch.Generator) -> tuple[int, int]:
    """Row and column where the four images of a mosaic meet: in the middle half of a canvas of twice `size`."""
    lows = [(side + 1) // 2 for side in size]
    row, column = (
        low + draw_below(2 * (side - low) + 1, generator) for side, low in zip(size, lows, strict=True)
    )
    return row, column


def mosaic(
    parts: Sequence[tuple[Tensor, Target]], size: tuple[int, int], centre: tuple[int, int]
) -> tuple[Tensor, Target]:
    """One image of four, with all of their objects that it shows.

    Args:
        parts: four images (3, H, W) uint8 with targets that have masks: upper left, upper right, lower left, lower
            right.
        size: height and width of the new image.
        centre: row and column where they meet. Each is resized so that it just covers its quarter, with a corner at the
            centre; what reaches beyond the new image is cut off.

    Returns:
        The new image, uint8, and its target.
    """
    canvas = torch.empty(*size, 3, dtype=torch.uint8).permute(2, 0, 1)  # pixel by pixel, as its parts are
    targets = []
    for quarter, (image, target) in enumerate(parts):
        below, right = quarter >= 2, quarter % 2 == 1
        top, left = below * centre[0], right * centre[1]
        height = size[0] - centre[0] if below else centre[0]
        width = size[1] - centre[1] if right else centre[1]
        part, place, corner = _covering((image.shape[1], image.shape[2]), (height, width), below, right)
        canvas[:, top : top + height, left : left + width] = place.image(image[:, *part])
        within = seen(place.target(target.moved(-corner[1], -corner[0])), place.size)
        targets.append(seen(within.moved(left, top), size))
    return canvas, together(targets)


def together(targets: Sequence[Target]) -> Target:
    """The objects of several targets with masks as one."""
    return Target(
        torch.cat([target.boxes for target in targets]),
        torch.cat([target.labels for target in targets]),
        [mask for target in targets for mask in target.masks or []],
    )


def _covering(
    size: tuple[int, int], quarter: tuple[int, int], below: bool, right: bool
) -> tuple[tuple[slice, slice], Placement, tuple[int, int]]:
    """The part of an image of `size` that covers a quarter, how it is resized, and its top and left.

    Cut before it is resized: a strip of 1 x 20000 pixels would grow to billions of them.
    """
    scale = max(quarter[0] / size[0], quarter[1] / size[1])
    height, width = (
        min(side, max(1, round(wanted / scale))) for side, wanted in zip(size, quarter, strict=True)
    )
    top, left = (0 if below else size[0] - height), (0 if right else size[1] - width)
    part = slice(top, top + height), slice(left, left + width)
    return part, Placement((height, width), quarter, flipped=False), (top, left)
