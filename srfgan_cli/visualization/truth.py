"""Ground truth in the form of detections, to be drawn beside them."""

from __future__ import annotations

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn.functional import interpolate

from srfgan.models.structures import Detections, InstanceMask, Polygons, Target


def as_detections(target: Target, size: tuple[int, int]) -> Detections:
    """The target of one image as detections of score 1, masks as pixels.

    Args:
        target: ground truth in the image's pixels.
        size: the image's height and width.
    """
    masks = None
    if target.masks is not None:
        pixels = [whole_mask(mask, size) for mask in target.masks]
        masks = torch.stack(pixels) if pixels else torch.zeros(0, *size, dtype=torch.bool)
    return Detections(target.boxes, torch.ones(len(target.boxes)), target.labels, masks)


def whole_mask(mask: InstanceMask, size: tuple[int, int]) -> Tensor:
    """(H, W) bool: an instance's mask in its image of `size` (height, width)."""
    height, width = size
    if isinstance(mask, Polygons):
        codes = coco_mask.frPyObjects([part.ravel().tolist() for part in mask.parts], height, width)
        return torch.from_numpy(coco_mask.decode(coco_mask.merge(codes)).astype(bool))
    x1, y1, x2, y2 = np.round(mask.span).astype(int).tolist()
    whole = torch.zeros(height, width, dtype=torch.bool)
    if x2 > x1 and y2 > y1:
        patch = torch.from_numpy(mask.pixels).float()[None, None]
        part = interpolate(patch, (y2 - y1, x2 - x1), mode="bilinear", align_corners=False)[0, 0] >= 0.5
        inside = whole[max(y1, 0) : y2, max(x1, 0) : x2]
        inside |= part[max(-y1, 0) :, max(-x1, 0) :][: inside.shape[0], : inside.shape[1]]
    return whole
