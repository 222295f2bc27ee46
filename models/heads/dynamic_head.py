"""One iteration of Sparse R-CNN's dynamic instance interactive head (Sparse R-CNN paper, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srfgan.models.config import SparseHeadConfig
from srfgan.models.heads.dense import prior_bias
from srfgan.models.ops.boxes import decode_boxes

BOX_WEIGHTS = (2.0, 2.0, 1.0, 1.0)
"""Factors on (dx, dy, dw, dh)."""
MAX_LOG_SCALE = 8.740336742730447
"""log(100000 / 16): a side may grow a hundred times more than in the two-stage detectors, as the first boxes
are not proposals that nearly fit."""

_CLASS_LAYERS, _BOX_LAYERS = 1, 3


class DynamicInteraction(nn.Module):
    """Each proposal's features become two 1x1 convolutions, which run over what was pooled from its box.

    Args:
        channels: width of the pyramid and of the proposals' features.
        width: between the two convolutions (D).
        bins: of a pooled box.
    """

    def __init__(self, channels: int, width: int, bins: int) -> None:
        super().__init__()
        self.kernels = nn.Linear(channels, 2 * channels * width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(channels)
        self.out = nn.Linear(channels * bins, channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, features: Tensor, pooled: Tensor) -> Tensor:
        """(R, C) of the proposals' features (R, C) and of their boxes' (R, C, M, M)."""
        squeeze, expand = self.kernels(features).chunk(2, dim=1)  # (R, C * D), (R, C * D)
        tokens = pooled.flatten(2).transpose(1, 2)  # (R, M * M, C)
        tokens = torch.relu(self.norm1(tokens @ squeeze.unflatten(1, (tokens.shape[2], -1))))  # (R, M * M, D)
        tokens = torch.relu(self.norm2(tokens @ expand.unflatten(1, (tokens.shape[2], -1))))  # (R, M * M, C)
        out: Tensor = torch.relu(self.norm3(self.out(tokens.flatten(1))))
        return out


class DynamicHead(nn.Module):
    """Self-attention among an image's proposals, dynamic interaction with their boxes, then classes and deltas.

    Args:
        channels: width of the pyramid and of the proposals' features.
        num_classes: without background, which has no logit.
        bins: of a pooled box.
        config: sizes.
    """

    def __init__(self, channels: int, num_classes: int, bins: int, config: SparseHeadConfig) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, config.attention_heads, batch_first=True)
        self.interaction = DynamicInteraction(channels, config.dynamic_width, bins)
        self.linear1 = nn.Linear(channels, config.feedforward_width)
        self.linear2 = nn.Linear(config.feedforward_width, channels)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.class_tower = _tower(channels, _CLASS_LAYERS)
        self.box_tower = _tower(channels, _BOX_LAYERS)
        self.classes = nn.Linear(channels, num_classes)
        self.deltas = nn.Linear(channels, 4)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.constant_(self.classes.bias, prior_bias())

    def forward(self, features: Tensor, pooled: Tensor) -> Tensor:
        """The proposals' new features (N, P, C).

        Args:
            features: (N, P, C) of the iteration before.
            pooled: (N * P, C, M, M) of the proposals' boxes, images in order.
        """
        attended, _ = self.attention(features, features, features, need_weights=False)
        features = self.norm1(features + attended)
        interacted = self.interaction(features.flatten(0, 1), pooled)  # (N * P, C)
        features = self.norm2(features + interacted.view_as(features))
        out: Tensor = self.norm3(features + self.linear2(torch.relu(self.linear1(features))))
        return out

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (N, P, K) float32 of features that `forward` gave."""
        logits: Tensor = self.classes(self.class_tower(features))
        return logits.float()

    def move(self, features: Tensor, boxes: Tensor) -> Tensor:
        """`boxes` (N, P, 4) as features that `forward` gave refine them: float32, not clipped."""
        deltas = self.deltas(self.box_tower(features))
        return decode_boxes(deltas, boxes, BOX_WEIGHTS, max_log_scale=MAX_LOG_SCALE)


def _tower(channels: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(channels, channels, bias=False), nn.LayerNorm(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
