"""Which object each anchor answers for in ATSS (ATSS paper, section 3.2, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from srfgan.models.ops.boxes import box_iou
from srfgan.models.structures import Target

_INSIDE = 0.01
"""Pixels that a positive's centre lies inside the box, so that its centre-ness is a number (the authors' code)."""


@torch.no_grad()
def atss_targets(
    anchors: Sequence[Tensor], targets: Sequence[Target], candidates_per_level: int, background: int
) -> tuple[Tensor, Tensor]:
    """What every anchor should predict.

    An object's candidates are the anchors of each level whose centres are nearest to its own. Its positives are those
    that overlap it by the mean and the standard deviation of all candidates' IoU together, or more, and whose centre
    lies inside it. An anchor that would be of several objects is of the one that it overlaps most.

    Args:
        anchors: (P_l, 4) of each level.
        targets: ground truth of N images.
        candidates_per_level: of each object.
        background: label of anchors without an object.

    Returns:
        Labels (N, P) int64 and boxes (N, P, 4), of all levels one after the other; the boxes mean nothing where the
        label is `background`.
    """
    levels = [len(level) for level in anchors]
    every = torch.cat(list(anchors))  # (P, 4)
    labels, boxes = [], []
    for target in targets:
        if len(target.boxes) == 0:
            labels.append(torch.full_like(every[:, 0], background, dtype=torch.int64))
            boxes.append(torch.zeros_like(every))
            continue
        quality, index = _matched(every, levels, target.boxes, candidates_per_level)
        labels.append(torch.where(quality >= 0, target.labels[index], background))
        boxes.append(target.boxes[index])
    return torch.stack(labels), torch.stack(boxes)


def _matched(
    anchors: Tensor, levels: Sequence[int], boxes: Tensor, candidates_per_level: int
) -> tuple[Tensor, Tensor]:
    """Of each anchor (P, 4) the IoU (P,) with its object, -1 without one, and the object's index (P,) int64."""
    centres, middles = _centre(anchors), _centre(boxes)  # (P, 2), (R, 2)
    distances = (middles[:, None] - centres).square().sum(dim=-1)  # (R, P)
    nearest = _nearest(distances, levels, candidates_per_level)  # (R, C)
    iou = box_iou(boxes, anchors).gather(1, nearest)  # (R, C)
    least = iou.mean(dim=1) + iou.std(dim=1)  # (R,)
    candidates = centres[nearest]  # (R, C, 2)
    inside = torch.minimum(candidates - boxes[:, None, :2], boxes[:, None, 2:] - candidates).amin(
        dim=-1
    )  # (R, C)
    positive = (iou >= least[:, None]) & (inside > _INSIDE)  # (R, C)
    quality = torch.full((len(boxes), len(anchors)), -1.0, device=anchors.device)  # (R, P)
    return quality.scatter_(1, nearest, torch.where(positive, iou, -1.0)).max(dim=0)


def _nearest(distances: Tensor, levels: Sequence[int], count: int) -> Tensor:
    """Columns (R, C) int64 of the `count` smallest `distances` (R, P) in each level, whose columns lie side by side."""
    first, found = 0, []
    for size, level in zip(levels, distances.split(list(levels), dim=1), strict=True):
        found.append(level.topk(min(count, size), dim=1, largest=False).indices + first)
        first += size
    return torch.cat(found, dim=1)


def _centre(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
