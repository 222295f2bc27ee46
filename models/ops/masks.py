"""Instance masks: targets for boxes, and pasting of predicted masks into images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.ops import roi_align

from srfgan.models.instance_masks import InstanceMask, MaskPatch, Polygons
from srfgan.models.ops.boxes import Size

Array = TypeVar("Array", np.ndarray, Tensor)

_MAX_PASTED_PIXELS = 2**26
"""Most pixels pasted at once on an accelerator: 256 MB of float32."""


_REACH = 4096.0
"""How far from its box, in bins of the grid, a vertex may lie: drawing an outline takes as long as it is long."""


def mask_targets(masks: Sequence[InstanceMask], boxes: Tensor, matched: Tensor, resolution: int) -> Tensor:
    """The part of each box's instance mask inside the box, on a grid.

    Args:
        masks: the instances of an image.
        boxes: (R, 4) float32 xyxy, any device.
        matched: (R,) int64, the instance of each box.
        resolution: rows and columns of the grid.

    Returns:
        (R, resolution, resolution) bool on the CPU. Polygons are rasterised on the grid by COCO's rule;
        patches are averaged by RoIAlign and count from one half (detectron2).
    """
    targets = torch.zeros(len(boxes), resolution, resolution, dtype=torch.bool)
    corners = boxes.cpu().numpy()
    instances = [masks[index] for index in matched.tolist()]
    polygons = [i for i, mask in enumerate(instances) if isinstance(mask, Polygons)]
    patches = [i for i, mask in enumerate(instances) if isinstance(mask, MaskPatch)]
    if polygons:
        outlines = [mask for mask in instances if isinstance(mask, Polygons)]
        targets[polygons] = _rasterize(outlines, corners[polygons], resolution)
    if patches:
        cuts = [mask for mask in instances if isinstance(mask, MaskPatch)]
        targets[patches] = _resample(cuts, corners[patches], resolution)
    return targets


def _rasterize(outlines: Sequence[Polygons], boxes: np.ndarray, resolution: int) -> Tensor:
    """(R, M, M) bool: the union of each outline's polygons within its box."""
    scale = resolution / np.maximum(boxes[:, 2:] - boxes[:, :2], 0.1)  # (R, 2)
    parts: list[np.ndarray] = []
    first: list[int] = []
    for outline, corner, factor in zip(outlines, boxes[:, :2], scale, strict=True):
        first.append(len(parts))
        parts += [((part - corner) * factor).clip(-_REACH, _REACH).ravel() for part in outline.parts]
    codes = coco_mask.frPyObjects(parts, resolution, resolution)
    bitmaps = coco_mask.decode(codes).transpose(2, 0, 1)  # (polygons, M, M)
    return torch.from_numpy(np.maximum.reduceat(bitmaps, first, axis=0).astype(bool))


def _resample(patches: Sequence[MaskPatch], boxes: np.ndarray, resolution: int) -> Tensor:
    """(R, M, M) bool: each patch pooled over its box.

    Those inside their image together, as a stack of equal sizes; those at its border, where RoIAlign has a rule of its
    own for what lies outside, one by one.
    """
    targets = torch.zeros(len(patches), resolution, resolution, dtype=torch.bool)
    groups: dict[int, list[int]] = {}
    for row, patch in enumerate(patches):
        groups.setdefault(id(patch) if any(patch.at_border) else 0, []).append(row)
    for rows in groups.values():
        targets[rows] = _pool([patches[row] for row in rows], boxes[rows], resolution)
    return targets


def _pool(patches: Sequence[MaskPatch], boxes: np.ndarray, resolution: int) -> Tensor:
    """(R, M, M) bool: patches pooled over their boxes in the patches' own pixels; at a border, all are the same one."""
    unique = {id(patch): patch for patch in patches}
    position = {key: index for index, key in enumerate(unique)}
    height = max(patch.pixels.shape[0] for patch in unique.values())
    width = max(patch.pixels.shape[1] for patch in unique.values())
    # A pixel of background around each patch, so that its edge is not extended outwards as the image's is.
    left, top, right, bottom = (int(not border) for border in patches[0].at_border)
    stack = torch.zeros(len(unique), 1, top + height + bottom, left + width + right)
    for index, patch in enumerate(unique.values()):
        rows, columns = patch.pixels.shape
        stack[index, 0, top : top + rows, left : left + columns] = torch.from_numpy(patch.pixels)
    rois = np.empty((len(patches), 5), np.float32)  # (R, 5)
    for row, patch, box in zip(rois, patches, boxes, strict=True):
        rows, columns = patch.pixels.shape
        corner, side = patch.span[:2], patch.span[2:] - patch.span[:2]
        factor = np.array([columns, rows]) / side
        row[0] = position[id(patch)]
        row[1:] = np.concatenate([(point - corner) * factor + [left, top] for point in (box[:2], box[2:])])
    pooled: Tensor = roi_align(stack, torch.from_numpy(rois), resolution, 1.0, 0, aligned=True)
    return pooled[:, 0] >= 0.5


def paste_masks(probs: Tensor, boxes: Tensor, size: Size, threshold: float = 0.5) -> Tensor:
    """Masks of whole images from masks of boxes, by bilinear interpolation at the pixels' centres.

    Args:
        probs: (R, M, M) in 0..1, over each box.
        boxes: (R, 4) xyxy in the image's pixels.
        size: height and width of the image.
        threshold: of the interpolated probability, inclusive; at least 0.5, so that no pixel outside
            the box can reach it.

    Returns:
        (R, height, width) bool on the device of `probs`. Equals `grid_sample` with zero padding and
        corners not aligned (detectron2).
    """
    if probs.device.type == "cpu":
        return _paste_one_by_one(probs.float(), boxes, size, threshold)
    with torch.autocast(probs.device.type, enabled=False):
        return _paste_together(probs.float(), boxes, size, threshold)


def _paste_together(probs: Tensor, boxes: Tensor, size: Size, threshold: float) -> Tensor:
    """Whole images by matrix products: fast where starting an operation costs more than the operation."""
    height, width = size
    ys, xs = (torch.arange(side, device=probs.device) + 0.5 for side in size)
    bins = torch.arange(probs.shape[-1], device=probs.device)
    at_once = max(1, _MAX_PASTED_PIXELS // max(1, height * width))
    pieces = [probs.new_zeros((0, height, width), dtype=torch.bool)]
    for part, part_boxes in zip(probs.split(at_once), boxes.split(at_once), strict=True):
        x0, y0, x1, y1 = part_boxes[..., None].unbind(1)  # (R, 1) each
        rows, columns = _weights(ys, y0, y1, bins), _weights(xs, x0, x1, bins)  # (R, H, M), (R, W, M)
        pieces.append(rows @ part @ columns.transpose(1, 2) >= threshold)
    return torch.cat(pieces)


def _paste_one_by_one(probs: Tensor, boxes: Tensor, size: Size, threshold: float) -> Tensor:
    """Only the pixels of each box; in numpy, which starts no threads for such small products."""
    height, width = size
    pasted = np.zeros((len(probs), height, width), dtype=bool)
    ys, xs = (np.arange(side, dtype=np.float32) + 0.5 for side in size)
    bins = np.arange(probs.shape[-1], dtype=np.float32)
    corners = boxes.detach().float().numpy()
    low = np.maximum(np.floor(corners[:, :2]), 0).astype(int)  # (R, 2)
    high = np.minimum(np.ceil(corners[:, 2:]), [width, height]).astype(int)  # (R, 2)
    for image, prob, box, (left, top), (right, bottom) in zip(
        pasted, probs.detach().numpy(), corners, low, high, strict=True
    ):
        if right > left and bottom > top:
            rows = _weights(ys[top:bottom], box[1:2], box[3:4], bins)
            columns = _weights(xs[left:right], box[0:1], box[2:3], bins)
            image[top:bottom, left:right] = rows @ prob @ columns.T >= threshold
    return torch.from_numpy(pasted)


def _weights(centres: Array, low: Array, high: Array, bins: Array) -> Array:
    """Bilinear weights (..., P, M) of P pixel centres for a mask of M bins over each box's [low, high]."""
    position = (centres - low) / (high - low) * len(bins) - 0.5
    weights: Array = (1 - abs(position[..., None] - bins)).clip(min=0)
    return weights
