"""Which box each place of the pyramid answers for in FCOS (FCOS paper, sections 3.1 to 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from srfgan.models.structures import Target

_STRIDES = (8, 16, 32, 64, 128)
_RADIUS = 1.5
"""Half the side of the square around a box's centre whose places answer for it, in strides."""


def fcos_locations(maps: Sequence[Tensor]) -> list[tuple[Tensor, int]]:
    """Places (H * W, 2) float32 x, y in image pixels of p3..p7, row by row, each with its level's stride.

    Args:
        maps: feature maps (..., H, W), finest first.
    """
    return [(_grid(x, stride), stride) for x, stride in zip(maps, _STRIDES, strict=True)]


@torch.no_grad()
def fcos_targets(
    locations: Sequence[tuple[Tensor, int]],
    targets: Sequence[Target],
    sizes_of_interest: Sequence[float],
    background: int,
) -> tuple[Tensor, Tensor]:
    """What every place should predict.

    A place answers for a box if it lies within 1.5 strides of its centre and inside it, and if the box's
    farthest side is in the level's range of sizes, ends included; among several, for the smallest one.

    Args:
        locations: of `fcos_locations`.
        targets: ground truth of N images.
        sizes_of_interest: in pixels, the borders between the levels' ranges.
        background: label of places without a box.

    Returns:
        Labels (N, P) int64 and distances (N, P, 4) to left, top, right, bottom in units of the stride, of
        all levels one after the other; the distances mean nothing where the label is `background`.
    """
    places = torch.cat([grid for grid, _ in locations])  # (P, 2)
    strides = torch.cat([torch.full_like(grid[:, 0], stride) for grid, stride in locations])  # (P,)
    borders = [-1.0, *sizes_of_interest, float("inf")]
    low, high = (
        torch.cat([torch.full_like(grid[:, 0], end) for (grid, _), end in zip(locations, ends, strict=True)])
        for ends in (borders[:-1], borders[1:])
    )  # (P,) each
    labels, distances = [], []
    for target in targets:
        if len(target.boxes) == 0:
            labels.append(torch.full_like(strides, background, dtype=torch.int64))
            distances.append(torch.zeros(len(places), 4, device=places.device))
            continue
        sides = _sides(places, target.boxes)  # (P, R, 4)
        farthest = sides.amax(dim=-1)  # (P, R)
        fits = (farthest >= low[:, None]) & (farthest <= high[:, None])  # (P, R)
        fits &= _near_centre(places, strides, target.boxes)
        extent = target.boxes[:, 2:] - target.boxes[:, :2]  # (R, 2)
        area = torch.where(fits, extent.prod(dim=1), torch.inf)  # (P, R)
        smallest, index = area.min(dim=1)  # (P,), (P,)
        labels.append(torch.where(smallest.isfinite(), target.labels[index], background))
        chosen = sides.gather(1, index[:, None, None].expand(-1, 1, 4)).squeeze(1)  # (P, 4)
        distances.append(chosen / strides[:, None])
    return torch.stack(labels), torch.stack(distances)


def centerness(sides: Tensor) -> Tensor:
    """How central places lie in their boxes, in 0..1: (...,) of `sides` (..., 4) (FCOS paper, equation 3)."""
    left, top, right, bottom = sides.unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (across * down).sqrt()


def _grid(x: Tensor, stride: int) -> Tensor:
    ys, xs = (torch.arange(side, device=x.device, dtype=torch.float32) for side in x.shape[-2:])
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")  # (H, W), (H, W)
    return torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 2) * stride + stride // 2


def _sides(places: Tensor, boxes: Tensor) -> Tensor:
    """Distances (P, R, 4) in pixels from each place to each box's left, top, right and bottom."""
    return torch.cat([places[:, None] - boxes[:, :2], boxes[:, 2:] - places[:, None]], dim=-1)


def _near_centre(places: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:
    """Bool (P, R): the place lies strictly inside the square around the box's centre, cut to the box."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2  # (R, 2)
    reach = (_RADIUS * strides)[:, None, None]  # (P, 1, 1)
    low = torch.maximum(centre - reach, boxes[:, :2])  # (P, R, 2)
    high = torch.minimum(centre + reach, boxes[:, 2:])  # (P, R, 2)
    return ((places[:, None] > low) & (places[:, None] < high)).all(dim=-1)
