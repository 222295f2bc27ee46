"""What the one-stage heads share: levels p3..p7, focal loss, and the way from dense scores to detections."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from srfgan.models.config import InferenceConfig
from srfgan.models.ops.anchors import flatten_map
from srfgan.models.ops.boxes import Size, clip_boxes, is_nonempty
from srfgan.models.ops.convolution import Conv2d
from srfgan.models.ops.nms import nms_within_classes
from srfgan.models.structures import Detections

LEVELS = ("p3", "p4", "p5", "p6", "p7")
STRIDES = (8, 16, 32, 64, 128)

_PRIOR = 0.01
"""Score of every class at initialisation (focal loss paper, section 4.1)."""
_ALPHA, _GAMMA = 0.25, 2.0


def focal_losses(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sigmoid focal losses (focal loss paper, equation 5; alpha 0.25, gamma 2) of every logit.

    Args:
        logits: (..., K).
        labels: (...) int64 in 0..K; K is background.
        weights: (K + 1,) of a place by its label; None: 1 everywhere.

    Returns:
        (..., K) float32.
    """
    classes = logits.shape[-1]
    wanted = torch.zeros(*labels.shape, classes + 1, device=logits.device)  # (..., K + 1)
    wanted = wanted.scatter_(-1, labels[..., None], 1)[..., :classes]  # (..., K)
    losses: Tensor = sigmoid_focal_loss(logits.float(), wanted, _ALPHA, _GAMMA)
    return losses if weights is None else losses * weights[labels][..., None]


def joined_maps(maps: Sequence[Tensor], width: int) -> Tensor:
    """Maps (N, A * width, H, W) of all levels as one tensor (N, P, width), in the order of the anchors."""
    return torch.cat([flatten_map(level, width) for level in maps], dim=1)


def best_pairs(scores: Tensor, passing: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best (place, class) pairs among those that pass a threshold.

    Args:
        scores: (P, K) in 0..1, what the pairs are ranked by.
        passing: (P, K) bool.
        limit: largest number of pairs.

    Returns:
        Their place (R,) int64, class (R,) int64 and score (R,), R <= `limit`.
    """
    classes = scores.shape[1]
    if torch.compiler.is_exporting():
        # A graph ranks first, as its number of candidates must not depend on the values.
        ranked = torch.where(passing, scores, -1.0).flatten()
        best, index = ranked.topk(min(limit, ranked.shape[0]))
        best, index = best[best >= 0], index[best >= 0]
    else:
        index = torch.nonzero(passing.flatten()).flatten()
        best = scores.flatten()[index]
        if len(index) > limit:
            best, order = best.topk(limit)
            index = index[order]
    return index // classes, index % classes, best


def select_dense_detections(
    boxes: Tensor, scores: Tensor, labels: Tensor, config: InferenceConfig
) -> Detections:
    """NMS within classes and the best of what is left; boxes are not clipped yet.

    Args:
        boxes: (R, 4) candidates of all levels of one image, not clipped.
        scores: (R,).
        labels: (R,) int64.
        config: IoU and how many to keep.
    """
    keep = nms_within_classes(boxes, scores, labels, config.nms_iou)[: config.detections_per_image]
    return Detections(boxes[keep], scores[keep], labels[keep])


def clipped_detections(found: Detections, size: Size) -> Detections:
    """`found` with boxes cut to an image of `size` (height, width), without those that are empty then."""
    found.boxes = clip_boxes(found.boxes, size)
    return found.select(is_nonempty(found.boxes))


def dense_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution of a one-stage head in its initial state: N(0, 0.01), zero bias."""
    conv = Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def class_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """As `dense_conv`, but with a bias that makes every class score 0.01 at first."""
    conv = dense_conv(in_channels, out_channels)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, prior_bias())
    return conv


def prior_bias() -> float:
    """The bias of a class logit that makes its score 0.01 at first."""
    return -math.log((1 - _PRIOR) / _PRIOR)
