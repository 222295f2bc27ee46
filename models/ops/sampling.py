"""Random subsets of positive and negative candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from models.ops.matching import NEGATIVE, POSITIVE


def sample_candidates(labels: Tensor, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Indices of the sampled positives and negatives among `labels` (N,).

    At most `count * positive_fraction` positives; negatives fill up to `count`. Candidates are taken by
    `torch.randperm(n)[:k]` in index order, so a test can make the choice deterministic.
    """
    positive = torch.nonzero(labels == POSITIVE).flatten()
    negative = torch.nonzero(labels == NEGATIVE).flatten()
    num_positive = min(len(positive), int(count * positive_fraction))
    return _choose(positive, num_positive), _choose(negative, min(len(negative), count - num_positive))


def _choose(candidates: Tensor, count: int) -> Tensor:
    return candidates[torch.randperm(len(candidates), device=candidates.device)[:count]]
