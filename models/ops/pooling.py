"""RoIAlign over several pyramid levels (FPN paper, equation 1; Mask R-CNN, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import torch
from torch import Tensor
from torchvision.ops import roi_align

from models.ops.boxes import Size, box_area
from models.ops.transfer import rows_where

_CANONICAL_LEVEL = 4
_CANONICAL_SIDE = 224
_WORTH_THREADS = 32
"""Boxes from which on several threads pay."""


def assign_levels(boxes: Tensor, lowest: int, highest: int) -> Tensor:
    """Pyramid level (R,) int64 of each box (R, 4): floor(4 + log2(sqrt(area) / 224)), within the range."""
    side = box_area(boxes).clamp(min=0).sqrt()
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(side / _CANONICAL_SIDE + 1e-8))
    return level.clamp(lowest, highest).to(torch.int64)


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
    return level.clamp(lowest, highest).to(torch.int64)


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
        maps: the levels to pool from, neighbours, finest first, {"p2": (N, C, H/4, W/4), ...}.
        boxes: (R_i, 4) float32 xyxy of each of the N images, in image pixels.
        resolution: bins in each direction.
        levels: (sum R_i,) int64, the number of the level of each box; None: by its size (`assign_levels`).
        samples: in each direction of a bin; 0: as many as the box has pixels there.

    Returns:
        (sum R_i, C, resolution, resolution), images in order. Half-pixel aligned.
    """
    image_index = [torch.full_like(part[:, :1], index) for index, part in enumerate(boxes)]
    rois = torch.cat([torch.cat(image_index), torch.cat(list(boxes))], dim=1)
    if rois.is_meta:  # boxes without values belong to no level
        channels = next(iter(maps.values())).shape[1]
        return rois.new_empty(len(rois), channels, resolution, resolution)
    numbers = [int(name.removeprefix("p")) for name in maps]
    if levels is None:
        levels = assign_levels(rois[:, 1:], numbers[0], numbers[-1])
    pooled = []
    of_level = rows_where([levels == level for level in numbers])
    for level, feature, index in zip(numbers, maps.values(), of_level, strict=True):
        pooled.append(_align(feature, rois[index], resolution, 0.5**level, samples))
    return torch.cat(pooled)[torch.argsort(torch.cat(of_level))]


def _align(feature: Tensor, rois: Tensor, resolution: int, scale: float, samples: int) -> Tensor:
    """RoIAlign of one level, (R, C, resolution, resolution).

    torchvision's CPU kernel uses one core. Without gradients the boxes are dealt out to threads, every
    n-th to one, which shares large and small boxes evenly.
    """
    pool = partial(
        roi_align, output_size=resolution, spatial_scale=scale, sampling_ratio=samples, aligned=True
    )
    threads = torch.get_num_threads()
    if (
        torch.compiler.is_exporting()
        or feature.device.type != "cpu"
        or feature.requires_grad
        or threads == 1
        or len(rois) < _WORTH_THREADS
    ):
        aligned: Tensor = pool(feature, rois)
        return aligned
    inference = torch.is_inference_mode_enabled()  # a thread does not inherit it

    def pool_share(share: Tensor) -> Tensor:
        with torch.inference_mode(inference):
            part: Tensor = pool(feature, share)
            return part

    aligned = feature.new_empty(len(rois), feature.shape[1], resolution, resolution)
    shares = _threads(threads).map(pool_share, [rois[first::threads] for first in range(threads)])
    for first, share in enumerate(shares):
        aligned[first::threads] = share
    return aligned


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="roi_align")
