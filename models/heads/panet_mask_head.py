"""PANet's mask head (sections 3.2 and 3.3): it reads all levels, and a fully connected layer sees the box whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from srfgan.models.config import MaskHeadConfig
from srfgan.models.heads.adaptive_pooling import FusedLevels
from srfgan.models.heads.convs import conv3x3
from srfgan.models.heads.mask_head import MaskHead
from srfgan.models.ops.pooling import pool_boxes_from_all


class PANetMaskHead(MaskHead):
    """A mask head whose first convolution reads all levels, and which adds one mask of the whole box to each class's.

    Args:
        channels: width of the pyramid.
        num_classes: without background.
        config: sizes; masks have twice its resolution.
        levels: how many levels the boxes are pooled from.
    """

    def __init__(self, channels: int, num_classes: int, config: MaskHeadConfig, levels: int) -> None:
        super().__init__(channels, num_classes, config)
        others = (conv3x3(channels, config.channels, config.norm) for _ in range(levels - 1))
        self.first = FusedLevels([self.convs.pop(0), *others])
        self.foreground = ForegroundBranch(config)

    def forward(self, maps: dict[str, Tensor], boxes: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mask logits (R, M, M) of `boxes` of all images, each in the channel of its label (R,)."""
        return self.predict(pool_boxes_from_all(maps, boxes, self.config.resolution), labels)

    def predict(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """As `forward`, of the boxes' features (L, R, C, M / 2, M / 2)."""
        x: Tensor = self.first(pooled)  # (R, D, M / 2, M / 2)
        for conv in self.convs[:-1]:
            x = torch.relu_(conv(x))
        of_each_class = x
        for conv in self.convs[-1:]:  # the last one is not shared, if it is not the first as well
            of_each_class = torch.relu_(conv(x))
        foreground: Tensor = self.foreground(x)  # (R, M, M)
        return self.masks_of(of_each_class, labels) + foreground


class ForegroundBranch(nn.Module):
    """Two convolutions, the second of half the width, and one fully connected layer: one mask for all classes.

    The layer ends in a ReLU as in the authors' code; the paper names none.

    Args:
        config: of the mask head.
    """

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        width, half = config.channels, config.channels // 2
        self.resolution = 2 * config.resolution
        self.convs = nn.ModuleList([conv3x3(width, width, config.norm), conv3x3(width, half, config.norm)])
        self.fc = nn.Linear(half * config.resolution**2, self.resolution**2)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Features (R, D, M / 2, M / 2) to logits (R, M, M) of foreground, to be added to each class's."""
        for conv in self.convs:
            x = torch.relu_(conv(x))
        masks: Tensor = torch.relu_(self.fc(x.flatten(1))).unflatten(1, (self.resolution, -1))
        return masks
