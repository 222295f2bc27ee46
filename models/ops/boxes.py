"""Boxes as (R, 4) float tensors, x0 y0 x1 y1 in continuous pixels: width is x1 - x0, without a + 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Size = tuple[int, int]
"""Height and width of an image in pixels."""

MAX_LOG_SCALE = math.log(1000 / 16)
"""Decoded sides grow at most by this factor's exponential, so that no box overflows."""


def box_area(boxes: Tensor) -> Tensor:
    """Areas (...,) of `boxes` (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def within_sides(boxes: Tensor, sides: Tensor) -> Tensor:
    """Whether the root of the area of each of `boxes` (..., 4) lies between two `sides` (..., 2), both included."""
    side = box_area(boxes).clamp(min=0).sqrt()
    return (side >= sides[..., 0]) & (side <= sides[..., 1])


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Pairwise intersection over union (M, N) of boxes (M, 4) and (N, 4); 0 where nothing intersects."""
    x0, y0, x1, y1 = first[:, None].unbind(-1)  # (M, 1) each
    u0, v0, u1, v1 = second[None].unbind(-1)  # (1, N) each
    width = (torch.minimum(x1, u1) - torch.maximum(x0, u0)).clamp_(min=0)  # (M, N)
    height = (torch.minimum(y1, v1) - torch.maximum(y0, v0)).clamp_(min=0)  # (M, N)
    intersection = width.mul_(height)
    union = box_area(first)[:, None] + box_area(second)[None] - intersection
    return torch.where(intersection > 0, intersection / union, 0.0)


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """GIoU (...) in -1..1 (GIoU paper, algorithm 1) of boxes (..., 4) that broadcast; not for two empty ones."""
    x0, y0, x1, y1 = first.unbind(-1)
    u0, v0, u1, v1 = second.unbind(-1)
    width = (torch.minimum(x1, u1) - torch.maximum(x0, u0)).clamp(min=0)
    height = (torch.minimum(y1, v1) - torch.maximum(y0, v0)).clamp(min=0)
    intersection = width * height
    union = box_area(first) + box_area(second) - intersection
    hull = (torch.maximum(x1, u1) - torch.minimum(x0, u0)) * (torch.maximum(y1, v1) - torch.minimum(y0, v0))
    return intersection / union - (hull - union) / hull


def clip_boxes(boxes: Tensor, size: Size) -> Tensor:
    """`boxes` (..., 4) cut to an image of `size` (height, width)."""
    height, width = size
    x0, y0, x1, y1 = boxes.unbind(-1)
    sides = (x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height))
    return torch.stack(sides, dim=-1)


def is_nonempty(boxes: Tensor) -> Tensor:
    """Bool (...,): both sides of `boxes` (..., 4) are longer than zero."""
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def encode_boxes(boxes: Tensor, targets: Tensor, weights: Sequence[float]) -> Tensor:
    """Deltas (..., 4) that move `boxes` (..., 4) onto `targets` (..., 4) (R-CNN paper, appendix C, eq. 6 to 9).

    Args:
        boxes: anchors or proposals with sides longer than zero.
        targets: ground truth, one for each box; `boxes` broadcast to them.
        weights: the four factors on (dx, dy, dw, dh).
    """
    size, centre = _size_and_centre(boxes)
    target_size, target_centre = _size_and_centre(targets)
    shift = (target_centre - centre) / size  # (..., 2)
    scale = torch.log(target_size / size)  # (..., 2)
    factors = zip((*shift.unbind(-1), *scale.unbind(-1)), weights, strict=True)
    return torch.stack([delta * factor for delta, factor in factors], dim=-1)


def decode_boxes(
    deltas: Tensor, boxes: Tensor, weights: Sequence[float], *, max_log_scale: float = MAX_LOG_SCALE
) -> Tensor:
    """The inverse of `encode_boxes`: `boxes` (..., 4) moved by `deltas` (..., 4), float32, not clipped.

    A side grows at most by the factor exp(`max_log_scale`), 1000 / 16 by default.
    """
    size, centre = _size_and_centre(boxes)
    factors = zip(deltas.float().unbind(-1), weights, strict=True)
    deltas = torch.stack([delta / factor for delta, factor in factors], dim=-1)
    new_centre = deltas[..., :2] * size + centre  # (..., 2)
    half = 0.5 * deltas[..., 2:].clamp(max=max_log_scale).exp() * size  # (..., 2)
    return torch.cat([new_centre - half, new_centre + half], dim=-1)


def _size_and_centre(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return size, boxes[..., :2] + 0.5 * size
