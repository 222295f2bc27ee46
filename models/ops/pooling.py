"""RoIAlign over several pyramid levels (FPN paper, equation 1; Mask R-CNN, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from models.ops.boxes import box_area

_CANONICAL_LEVEL = 4
_CANONICAL_SIDE = 224


def assign_levels(boxes: Tensor, lowest: int, highest: int) -> Tensor:
    """Pyramid level (R,) int64 of each box (R, 4): floor(4 + log2(sqrt(area) / 224)), within the range."""
    side = box_area(boxes).clamp(min=0).sqrt()
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(side / _CANONICAL_SIDE + 1e-8))
    return level.clamp(lowest, highest).to(torch.int64)


def pool_boxes(features: Sequence[Tensor], boxes: Sequence[Tensor], resolution: int) -> Tensor:
    """Pool every box from the level that fits its size.

    Args:
        features: p2, p3, ... in order, (N, C, H, W) each, the first at stride 4.
        boxes: (R_i, 4) float32 xyxy of each of the N images, in image pixels.
        resolution: bins in each direction.

    Returns:
        (sum R_i, C, resolution, resolution), images in order. Half-pixel aligned; as many samples per bin
        as the box has pixels there.
    """
    image_index = [torch.full_like(part[:, :1], index) for index, part in enumerate(boxes)]
    rois = torch.cat([torch.cat(image_index), torch.cat(list(boxes))], dim=1)
    levels = assign_levels(rois[:, 1:], 2, 1 + len(features))
    order, pooled = [], []
    for level, feature in enumerate(features, start=2):
        index = torch.nonzero(levels == level).flatten()
        order.append(index)
        pooled.append(roi_align(feature, rois[index], resolution, 0.5**level, 0, aligned=True))
    return torch.cat(pooled)[torch.argsort(torch.cat(order))]
