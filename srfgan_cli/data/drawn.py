"""Masks as an image shows them: drawn on its pixels, and cut where it ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn.functional import interpolate

from srfgan.models.instance_masks import InstanceMask, MaskPatch, Polygons
from srfgan.models.structures import Target

FILL = (124.0, 116.0, 104.0)
"""Colour, RGB in 0..255, of what lies outside an image: ImageNet's mean, which a detector normalises to about the 0
that its batches are padded with."""

_ACROSS = 0.5  # pixels; objects that leave the image by less are not drawn anew
_SMALLEST = 1.0  # pixels; what is thinner is seen by nobody


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


def visible(mask: InstanceMask, size: tuple[int, int]) -> MaskPatch | None:
    """A mask's pixels in an image of `size` (height, width); None: there are none."""
    low, high = pixel_bounds(mask.extent, size)
    if (low >= high).any():
        return None
    x, y = low.tolist()
    width, height = (high - low).tolist()
    return tight(whole_mask(mask.moved(-x, -y), (height, width)).numpy(), (x, y), size)


def pixel_bounds(extent: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The whole pixels of an image of `size` that `extent`, (4,) xyxy, touches: lowest and highest x, y, int64."""
    sides = np.array(size[::-1])
    low, high = np.floor(extent[:2]), np.ceil(extent[2:])
    return low.clip(0, sides).astype(np.int64), high.clip(0, sides).astype(np.int64)


def tight(pixels: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> MaskPatch | None:
    """The set pixels of a window as a mask without empty borders; None: there are none.

    Args:
        pixels: (h, w) bool.
        corner: x, y of the window's upper left pixel.
        size: height and width of the image.
    """
    columns, rows = (np.flatnonzero(pixels.any(axis=axis)) for axis in (0, 1))
    if not len(rows):
        return None
    left, top, right, bottom = (int(side) for side in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    span = np.array([left, top, right, bottom], np.float64) + np.array(corner * 2)
    cut = np.ascontiguousarray(pixels[top:bottom, left:right]).astype(np.uint8)
    return MaskPatch(cut, span, _at_border(span, size))


def seen(target: Target, size: tuple[int, int]) -> Target:
    """The objects that an image of `size` (height, width) shows of a target with masks.

    What reaches beyond the image is cut there: its mask becomes pixels, and its box is drawn anew around them. Objects
    of which less than a pixel is left in either direction are dropped.
    """
    assert target.masks is not None
    limit = np.array([size[1], size[0]] * 2, np.float64)
    kept, boxes, masks = [], [], []
    for number, (box, mask) in enumerate(zip(target.boxes.double().numpy(), target.masks, strict=True)):
        cut = _cut(box, mask, limit, size)
        if cut is not None and (cut[0][2:] - cut[0][:2] >= _SMALLEST).all():
            kept.append(number)
            boxes.append(cut[0])
            masks.append(cut[1])
    return Target(as_boxes(boxes), target.labels[kept], masks)


def overlap(
    inner: tuple[int, int], corner: tuple[int, int], outer: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns that two images share, in the outer one's pixels and in the inner one's.

    Args:
        inner, outer: height and width.
        corner: top and left of the inner image in the outer one; it may lie outside.
    """
    ours, theirs = [], []
    for first, length, limit in zip(corner, inner, outer, strict=True):
        low = min(max(first, 0), limit)
        high = max(min(first + length, limit), low)
        ours.append(slice(low, high))
        theirs.append(slice(low - first, high - first))
    return (ours[0], ours[1]), (theirs[0], theirs[1])


def corners(box: np.ndarray) -> np.ndarray:
    """(4, 2) x, y of the corners of (4,) xyxy, once around."""
    return box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)


def as_boxes(boxes: list[np.ndarray]) -> Tensor:
    """(R, 4) float32 of R arrays (4,)."""
    return torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))


def _cut(
    box: np.ndarray, mask: InstanceMask, limit: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, InstanceMask] | None:
    both = np.stack([box, mask.extent])
    if (both >= -_ACROSS).all() and (both <= limit + _ACROSS).all():
        return box.clip(0, limit), _without_lost_borders(mask, size)
    patch = visible(mask, size)
    return None if patch is None else (patch.span, patch)


def _without_lost_borders(mask: InstanceMask, size: tuple[int, int]) -> InstanceMask:
    """The mask where padding has moved the image's border away from it."""
    if not isinstance(mask, MaskPatch):
        return mask
    now = np.array(mask.at_border) & _at_border(mask.span, size)
    left, top, right, bottom = now.tolist()
    return replace(mask, at_border=(left, top, right, bottom))


def _at_border(span: np.ndarray, size: tuple[int, int]) -> tuple[bool, bool, bool, bool]:
    left, top, right, bottom = span.tolist()
    height, width = size
    return left <= _ACROSS, top <= _ACROSS, right >= width - _ACROSS, bottom >= height - _ACROSS
