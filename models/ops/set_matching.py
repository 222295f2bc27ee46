"""One-to-one matching of predicted and ground-truth boxes (DETR paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from srfgan.models.ops.transfer import to_device

_ALPHA = 0.25
_NOT_FINITE = 1e8


def focal_costs(logits: Tensor) -> Tensor:
    """What it costs to take a class instead of none, by its logit: focal loss's terms of a 1 less those of a 0."""
    p = logits.sigmoid()
    taken = _ALPHA * (1 - p) ** 2 * -torch.log(p + 1e-8)
    left = (1 - _ALPHA) * p**2 * -torch.log(1 - p + 1e-8)
    return taken - left


def match_sets(costs: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The cheapest pairs of ground-truth boxes and predictions, each used once at most.

    Args:
        costs: (G, S, P) for all G ground-truth boxes, one image after the other, in S sets of predictions
            that are matched independently of each other, of P predictions for each image.
        counts: how many of the G belong to each image.

    Returns:
        The pairs' ground truth (S, M) and prediction (S, M), int64 on the device of `costs`, images in order;
        M is the sum of each image's smaller number. All costs go to the host together, and back the pairs.
    """
    from scipy.optimize import linear_sum_assignment  # not at start-up: half a second that only this needs

    # A training that diverges shall end at its loss, which names it, not here.
    table = np.nan_to_num(
        costs.detach().cpu().numpy(), nan=_NOT_FINITE, posinf=_NOT_FINITE, neginf=-_NOT_FINITE
    )  # (G, S, P)
    ends = list(pairwise(accumulate(counts, initial=0)))
    pairs = np.empty((2, table.shape[1], sum(min(count, table.shape[2]) for count in counts)), np.int64)
    for index in range(table.shape[1]):
        matched = [linear_sum_assignment(table[start:stop, index]) for start, stop in ends]
        truth = [rows + start for (rows, _), (start, _) in zip(matched, ends, strict=True)]
        pairs[0, index] = np.concatenate(truth)
        pairs[1, index] = np.concatenate([columns for _, columns in matched])
    truth_index, prediction = to_device(torch.from_numpy(pairs), costs.device)
    return truth_index, prediction
