"""Libra R-CNN's samples (section 3.1): negatives of every overlap, and as many positives of each object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from srfgan.models.ops.matching import best_overlaps
from srfgan.models.ops.sampling import shuffled, split_candidates
from srfgan.models.structures import Target


def sample_balanced(
    boxes: Sequence[Tensor],
    targets: Sequence[Target],
    matches: Sequence[tuple[Tensor, Tensor]],
    count: int,
    positive_fraction: float,
    *,
    iou_bins: int,
) -> list[tuple[Tensor, Tensor]]:
    """Indices of the sampled positives and negatives among the `boxes` (R, 4) of each image.

    At most `count * positive_fraction` positives, dealt out to the objects in turn. Negatives fill up to `count`:
    from each of `iou_bins` equal parts of the IoUs from 0 to 1 as many, as far as it has them, then any others that
    overlap an object, and what overlaps none last. (The paper splits the range that negatives have. This is what
    its published code does, which splits up to the largest IoU of all boxes, and the objects are among them.)

    Args:
        boxes: candidates.
        targets: ground truth.
        matches: of `match_boxes`.
        count: samples of an image.
        positive_fraction: of them, at most.
        iou_bins: parts that the negatives come from.
    """
    sampled = []
    chosen_from = split_candidates([labels for _, labels in matches])
    for part, target, (index, _), (positive, negative) in zip(
        boxes, targets, matches, chosen_from, strict=True
    ):
        num_positive = min(len(positive), int(count * positive_fraction))
        num_negative = min(len(negative), count - num_positive)
        positive, negative = shuffled(positive), shuffled(negative)  # (P,), (Q,)
        in_turn = _rank_within(index[positive], len(target.boxes))  # (P,)
        iou = best_overlaps(target.boxes, part[negative])[0]  # (Q,)
        rank = _negative_rank(iou, num_negative // iou_bins, iou_bins)  # (Q,)
        sampled.append((_first(positive, in_turn, num_positive), _first(negative, rank, num_negative)))
    return sampled


def _negative_rank(iou: Tensor, per_bin: int, bins: int) -> Tensor:
    """Of negatives of IoUs (Q,), in random order: 0 for a bin's share, 1 for others, 2 for those of no overlap."""
    of_bin = (iou * bins).long().clamp(max=bins - 1)  # (Q,)
    overlaps = iou > 0  # (Q,)
    # Those without overlap are in no bin, but in one more.
    within = _rank_within(torch.where(overlaps, of_bin, bins), bins + 1)  # (Q,)
    return torch.where(overlaps, (within >= per_bin).long(), 2)


def _rank_within(groups: Tensor, count: int) -> Tensor:
    """How many of the same group (K,), numbers below `count`, come before each: (K,) int64."""
    members = torch.zeros(len(groups), count, dtype=torch.int64, device=groups.device)  # (K, G)
    members.scatter_(1, groups[:, None], 1)
    return members.cumsum(dim=0).gather(1, groups[:, None]).squeeze(1) - 1


def _first(candidates: Tensor, rank: Tensor, count: int) -> Tensor:
    """The `count` candidates (K,) of the lowest rank (K,), earlier ones first."""
    return candidates[rank.argsort(stable=True)[:count]]
