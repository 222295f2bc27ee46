"""Which ground-truth box each anchor or proposal belongs to."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from srfgan.models.ops.boxes import box_iou

IGNORED, NEGATIVE, POSITIVE = -1, 0, 1

_MAX_PAIRS = 2**24
"""Largest IoU matrix held at once; more candidates are compared in parts."""


def match_boxes(
    truth: Tensor, candidates: Tensor, *, negative_below: float, positive_from: float, rescue: bool
) -> tuple[Tensor, Tensor]:
    """Match `candidates` (N, 4) with `truth` (M, 4) by IoU.

    Args:
        truth: ground-truth boxes; may be empty, then every candidate is negative.
        candidates: anchors or proposals.
        negative_below: candidates whose best IoU is smaller are negative.
        positive_from: candidates whose best IoU is at least this are positive; those between are ignored.
        rescue: also make each ground truth's best candidates positive, ties included (detectron2's
            "low quality matches"); they keep the index of their own best ground truth.

    Returns:
        The index (N,) int64 of each candidate's best ground truth and its label (N,) int8: `POSITIVE`,
        `NEGATIVE` or `IGNORED`.
    """
    quality, index = best_overlaps(truth, candidates)  # (N,), (N,)
    if len(truth) == 0:
        return index, torch.full_like(index, NEGATIVE, dtype=torch.int8)
    labels = torch.full_like(index, IGNORED, dtype=torch.int8)
    labels.masked_fill_(quality < negative_below, NEGATIVE)
    labels.masked_fill_(quality >= positive_from, POSITIVE)
    if rescue:
        labels.masked_fill_(_best_of_any_truth(truth, candidates), POSITIVE)
    return index, labels


def best_overlaps(truth: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """The largest IoU (N,) of `candidates` (N, 4) with `truth` (M, 4), and with which: (N,) int64; 0 without truth."""
    if len(truth) == 0:
        return torch.zeros_like(candidates[:, 0]), torch.zeros_like(candidates[:, 0], dtype=torch.int64)
    best = [iou.max(dim=0) for iou in _iou_in_parts(truth, candidates)]
    return torch.cat([part.values for part in best]), torch.cat([part.indices for part in best])


def touches(truth: Tensor, chosen: Tensor, candidates: Tensor, *, above: float) -> Tensor:
    """Whether each of `candidates` (N, 4) overlaps any `chosen` (M,) bool of `truth` (M, 4) by an IoU `above` this."""
    if len(truth) == 0:
        return torch.zeros(len(candidates), dtype=torch.bool, device=candidates.device)
    parts = [(iou * chosen[:, None]).amax(dim=0) > above for iou in _iou_in_parts(truth, candidates)]
    return torch.cat(parts)


def _iou_in_parts(truth: Tensor, candidates: Tensor) -> Iterator[Tensor]:
    for part in candidates.split(max(1, _MAX_PAIRS // len(truth))):
        yield box_iou(truth, part)


def _best_of_any_truth(truth: Tensor, candidates: Tensor) -> Tensor:
    best = torch.stack([iou.amax(dim=1) for iou in _iou_in_parts(truth, candidates)]).amax(dim=0)  # (M,)
    # A box that touches no candidate has a best IoU of 0: it must not make all of them positive.
    best = torch.where(best > 0, best, torch.inf)
    return torch.cat([(iou == best[:, None]).any(dim=0) for iou in _iou_in_parts(truth, candidates)])
