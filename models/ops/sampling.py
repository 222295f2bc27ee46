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
    labels: Sequence[Tensor],
    count: int,
    positive_fraction: float,
    *,
    negatives_per_positive: int | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Indices of the sampled positives and negatives among the `labels` (N,) of each image.

    At most `count * positive_fraction` positives; negatives fill up to `count`, or to `negatives_per_positive` for each
    positive (and for one, if there are none). Candidates are taken by
    `torch.randperm(n)[:k]` in index order, so a test can make the choice deterministic.
    """
    sampled = []
    for positive, negative in split_candidates(labels):
        num_positive = min(len(positive), int(count * positive_fraction))
        num_negative = min(len(negative), count - num_positive)
        if negatives_per_positive is not None:
            num_negative = min(num_negative, negatives_per_positive * max(num_positive, 1))
        sampled.append((shuffled(positive)[:num_positive], shuffled(negative)[:num_negative]))
    return sampled


def shuffled(candidates: Tensor) -> Tensor:
    """`candidates` (K,) in random order."""
    return candidates[torch.randperm(len(candidates), device=candidates.device)]
