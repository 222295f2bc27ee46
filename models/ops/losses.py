"""Detection losses, always computed in float32, and finite for empty inputs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def l1_sum(prediction: Tensor, target: Tensor) -> Tensor:
    """Sum of absolute differences; 0 with a gradient path where there is nothing to sum."""
    return (prediction.float() - target).abs().sum()


def binary_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropies of `logits` against `target`, in 0..1, all of the same shape."""
    return F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")


def binary_sum(logits: Tensor, target: Tensor) -> Tensor:
    """The sum of `binary_losses`."""
    return F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="sum")


def class_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of cross entropies of `logits` (R, C) against `labels` (R,)."""
    return F.cross_entropy(logits.float(), labels, reduction="sum")
