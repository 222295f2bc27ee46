"""Random subsets of positive and negative candidates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from srfgan.models.ops.matching import NEGATIVE, POSITIVE
from srfgan.models.ops.transfer import rows_where


def split_candidates(labels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Indices of all positives and of all negatives among the `labels` (N,) of each image, ascending."""
    rows = rows_where([part == kind for part in labels for kind in (POSITIVE, NEGATIVE)])
    return list(zip(rows[::2], rows[1::2], strict=True))


def sample_candidates(
    labels: Sequence[Tensor], count: int, positive_fraction: float
) -> list[tuple[Tensor, Tensor]]:
    """Indices of the sampled positives and negatives among the `labels` (N,) of each image.

    At most `count * positive_fraction` positives; negatives fill up to `count`. Candidates are taken by
    `torch.randperm(n)[:k]` in index order, so a test can make the choice deterministic.
    """
    sampled = []
    for positive, negative in split_candidates(labels):
        num_positive = min(len(positive), int(count * positive_fraction))
        num_negative = min(len(negative), count - num_positive)
        sampled.append((_choose(positive, num_positive), _choose(negative, num_negative)))
    return sampled


def _choose(candidates: Tensor, count: int) -> Tensor:
    return candidates[torch.randperm(len(candidates), device=candidates.device)[:count]]
