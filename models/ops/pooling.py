"""RoIAlign over several pyramid levels (FPN paper, equation 1; Mask R-CNN, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torchvision
from torch import Tensor

from srfgan.models.ops import roi_align
from srfgan.models.ops.boxes import Size, box_area
from srfgan.models.ops.transfer import rows_where

_CANONICAL_LEVEL = 4
_CANONICAL_SIDE = 224


def assign_levels(boxes: Tensor, lowest: int, highest: int) -> Tensor:
    """Pyramid level (R,) int64 of each box (R, 4): floor(4 + log2(sqrt(area) / 224)), within the range."""
    side = box_area(boxes).clamp(min=0).sqrt()
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(side / _CANONICAL_SIDE + 1e-8))
    return _level_numbers(level, lowest, highest)


def assign_levels_by_share(boxes: Tensor, size: Size, lowest: int, highest: int) -> Tensor:
    """Pyramid level (R,) int64 of each box (R, 4) by its share of the image (CenterMask, section 3.2, equation 2).

    ceil(highest - log2(area of the image / area of the box)), within the range: the whole image is of the
    highest level, half of it of the next one.

    Args:
        boxes: not clipped to the image.
        size: height and width of the image before padding.
        lowest: number of the finest level.
        highest: number of the coarsest level.
    """
    height, width = size
    level = torch.ceil(highest - torch.log2(height * width / box_area(boxes)))
    return _level_numbers(level, lowest, highest)


def _level_numbers(level: Tensor, lowest: int, highest: int) -> Tensor:
    """Whole numbers within the range, int64; boxes that are no numbers (fp16 overflows) belong to the lowest level."""
    return level.clamp(lowest, highest).to(torch.int64).clamp(lowest, highest)


def pool_boxes(
    maps: Mapping[str, Tensor],
    boxes: Sequence[Tensor],
    resolution: int,
    *,
    levels: Tensor | None = None,
    samples: int = 0,
) -> Tensor:
    """Pool every box from one level.

    Args:
        maps: of `maps_for_pooling`: the levels to pool from, neighbours, finest first, {"p2": (N, C, H/4, W/4), ...}.
        boxes: (R_i, 4) float32 xyxy of each of the N images, in image pixels.
        resolution: bins in each direction.
        levels: (sum R_i,) int64, the number of the level of each box; None: by its size (`assign_levels`).
        samples: in each direction of a bin; 0: as many as the box has pixels there.

    Returns:
        (sum R_i, C, resolution, resolution), images in order. Half-pixel aligned.
    """
    image_index = [torch.full_like(part[:, :1], index) for index, part in enumerate(boxes)]
    rois = torch.cat([torch.cat(image_index), torch.cat(list(boxes))], dim=1)  # (sum R_i, 5)
    numbers = [int(name.removeprefix("p")) for name in maps]
    if levels is None:
        levels = assign_levels(rois[:, 1:], numbers[0], numbers[-1])
    of_level = _rows_by_level(levels, numbers)
    pooled = [
        _pool(feature, rois[rows], resolution, 0.5**level, samples)
        for level, feature, rows in zip(numbers, maps.values(), of_level, strict=True)
    ]
    return torch.cat(pooled)[torch.argsort(torch.cat(of_level))]


def _pool(x: Tensor, rois: Tensor, resolution: int, scale: float, samples: int) -> Tensor:
    """(R, C, resolution, resolution) of `rois` (R, 5) of a map (N, C, H, W)."""
    if _by_pixels(x):
        return roi_align.roi_align(x, rois, resolution, scale, samples)
    pooled: Tensor = torchvision.ops.roi_align(x, rois, resolution, scale, samples, aligned=True)
    return pooled


def _by_pixels(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_exporting() and not torch.compiler.is_compiling()


def _rows_by_level(levels: Tensor, numbers: Sequence[int]) -> list[Tensor]:
    """The rows of the boxes of each level."""
    if len(numbers) > 1 and not levels.is_meta:
        return rows_where([levels == level for level in numbers])
    # Of the one level, with no wait for a GPU to count them; `len` would fix the number in an exported graph.
    every = torch.arange(levels.shape[0], device=levels.device)
    # Boxes without values: as many of one level as of another.
    return list(every.tensor_split(len(numbers))) if levels.is_meta else [every]


def pool_boxes_from_all(maps: Mapping[str, Tensor], boxes: Sequence[Tensor], resolution: int) -> Tensor:
    """Pool every box from each of the L levels (PANet paper, section 3.2).

    Returns:
        (L, sum R_i, C, resolution, resolution), finest level first; the rest is as of `pool_boxes`.
    """
    return torch.stack([pool_boxes({name: feature}, boxes, resolution) for name, feature in maps.items()])


def maps_for_pooling(pyramid: Mapping[str, Tensor], levels: Sequence[str]) -> dict[str, Tensor]:
    """The pyramid's `levels` as RoIAlign wants them, float32, converted once for every head.

    On a CPU channels last, as they come; elsewhere channels first.
    """
    return {level: _converted(pyramid[level]) for level in levels}


def _converted(x: Tensor) -> Tensor:
    layout = torch.channels_last if _by_pixels(x) else torch.contiguous_format
    return x.to(torch.promote_types(x.dtype, torch.float32), memory_format=layout)
