"""Adaptive feature pooling (PANet paper, section 3.2): a head reads every box from all levels and fuses what it finds.

Each level has a first layer of its own, and the largest of their results goes on: after the first layer is where the
paper found it best (table 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from srfgan.models.config import BoxHeadConfig
from srfgan.models.heads.box_head import BoxHead
from srfgan.models.heads.convs import conv3x3
from srfgan.models.ops.pooling import pool_boxes_from_all


class FusedLevels(nn.Module):
    """A head's first layer, once for each level, with its activation: the element-wise maximum of all levels.

    Args:
        layers: one for each level, finest first, alike but for their weights.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Features (L, R, ...) of R boxes in L levels to (R, ...)."""
        found = (layer(_for_layer(part)) for layer, part in zip(self.layers, x, strict=True))
        # The largest of the activations is the activation of the largest.
        return torch.relu_(reduce(torch.maximum, found))


class AdaptiveBoxHead(BoxHead):
    """A box head whose first layer, be it a convolution or linear, reads all levels.

    Args:
        channels: width of the pyramid.
        num_classes: without background, which is the last logit.
        config: sampling and sizes.
        levels: how many.
    """

    def __init__(self, channels: int, num_classes: int, config: BoxHeadConfig, levels: int) -> None:
        super().__init__(channels, num_classes, config)
        self._starts_linear = not config.num_convs
        layers = self.fcs if self._starts_linear else self.convs
        others = (_first_layer(channels, config) for _ in range(levels - 1))
        self.first = FusedLevels([layers.pop(0), *others])

    def pool(self, maps: dict[str, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Features (L, R, C, M, M) of `boxes` (R_i, 4) of all images, from each of `maps`' L levels."""
        return pool_boxes_from_all(maps, boxes, self.config.resolution)

    def predict(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """As `BoxHead.predict`, of features (L, R, C, M, M)."""
        return super().predict(self.first(pooled.flatten(2) if self._starts_linear else pooled))


def _first_layer(channels: int, config: BoxHeadConfig) -> nn.Module:
    if config.num_convs:
        return conv3x3(channels, config.conv_channels, config.norm)
    layer = nn.Linear(channels * config.resolution**2, config.fc_dim)
    nn.init.kaiming_uniform_(layer.weight, a=1)
    nn.init.zeros_(layer.bias)
    return layer


def _for_layer(x: Tensor) -> Tensor:
    """Maps lie as convolutions want them; what is flat stays."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
