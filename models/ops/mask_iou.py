"""What the mask-IoU head of CenterMask learns (Mask Scoring R-CNN, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from srfgan.models.instance_masks import InstanceMask, MaskPatch, Polygons


def visible_shares(masks: Sequence[InstanceMask], boxes: Tensor, matched: Tensor) -> Tensor:
    """Which share of each object's area its box shows.

    Args:
        masks: the instances of an image.
        boxes: (R, 4) float32 xyxy, any device.
        matched: (R,) int64, the instance of each box.

    Returns:
        (R,) float32 in 0..1 on the CPU. Of polygons, the pixels inside the box (COCO's rule, on a grid of the
        box's size in whole pixels) are divided by the outline's area, as CenterMask's published training does.
    """
    instances = [masks[index] for index in matched.tolist()]
    shares = [
        _share_of_polygons(mask, box) if isinstance(mask, Polygons) else _share_of_patch(mask, box)
        for mask, box in zip(instances, boxes.cpu().numpy().astype(np.float64), strict=True)
    ]
    return torch.tensor(shares, dtype=torch.float32).clamp(0, 1)


def mask_iou_targets(logits: Tensor, truth: Tensor, shares: Tensor) -> Tensor:
    """IoU of each predicted mask with its whole object, the part outside the box included.

    Args:
        logits: (R, M, M) over each box; above 0 is mask.
        truth: (R, M, M) bool, the object's part inside the box.
        shares: (R,) of `visible_shares`.

    Returns:
        (R,) float32 in 0..1, without gradient.
    """
    predicted = logits.detach() > 0  # (R, M, M)
    overlap = (predicted & truth).sum(dim=(1, 2))  # (R,)
    whole = truth.sum(dim=(1, 2)) / shares.clamp(min=1e-10)  # (R,)
    return overlap / (predicted.sum(dim=(1, 2)) + whole - overlap).clamp(min=1)


def _share_of_polygons(outline: Polygons, box: np.ndarray) -> float:
    width, height = (max(int(side), 1) for side in box[2:] - box[:2])
    codes = coco_mask.frPyObjects([(part - box[:2]).ravel() for part in outline.parts], height, width)
    area = sum(_polygon_area(part) for part in outline.parts)
    return float(coco_mask.area(coco_mask.merge(codes))) / max(area, 1e-10)


def _polygon_area(part: np.ndarray) -> float:
    x, y = part.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _share_of_patch(patch: MaskPatch, box: np.ndarray) -> float:
    rows, columns = patch.pixels.shape
    x = _covered(columns, patch.span[[0, 2]], box[[0, 2]])
    y = _covered(rows, patch.span[[1, 3]], box[[1, 3]])
    return float(y @ patch.pixels @ x) / max(int(patch.pixels.sum()), 1)


def _covered(count: int, span: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Which share of each of `count` pixels, equal parts of `span`, lies within `side`."""
    edges = np.clip((side - span[0]) / (span[1] - span[0]) * count, 0, count)
    pixels = np.arange(count)
    covered: np.ndarray = np.clip(edges[1] - pixels, 0, 1) - np.clip(edges[0] - pixels, 0, 1)
    return covered
