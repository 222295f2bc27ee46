"""Detection losses, always computed in float32, and finite for empty inputs."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def l1_sum(prediction: Tensor, target: Tensor) -> Tensor:
    """Sum of absolute differences; 0 with a gradient path where there is nothing to sum."""
    return (prediction.float() - target).abs().sum()


def balanced_l1_sum(prediction: Tensor, target: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Sum of the balanced L1 losses (Libra R-CNN paper, equations 7 to 9); 0 with a gradient path without any."""
    error = (prediction.float() - target).abs()
    b = math.exp(gamma / alpha) - 1  # equation 9: the two gradients meet at an error of 1
    small = error.clamp(max=1)
    inlier = alpha / b * (b * small + 1) * (b * small + 1).log() - alpha * small
    return (inlier + gamma * (error - small)).sum()


def binary_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropies of `logits` against `target`, in 0..1, all of the same shape."""
    return F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")


def binary_sum(logits: Tensor, target: Tensor) -> Tensor:
    """The sum of `binary_losses`."""
    return F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="sum")


def class_sum(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum of cross entropies of `logits` (R, C) against `labels` (R,), each times the weight (C,) of its label."""
    return F.cross_entropy(logits.float(), labels, weights, reduction="sum")
