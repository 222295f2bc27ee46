"""AugFPN's pyramid (AugFPN paper, section 3.2): FPN whose coarsest level also sees contexts of the whole image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from srfgan.models.necks.fpn import FeaturePyramid, fused, lateral_maps
from srfgan.models.ops.convolution import Conv2d
from srfgan.models.ops.graph_pooling import smoothed

_TENTHS = (1, 2, 3)
"""Sides of the pooled contexts, of the map's own (the paper's alpha 0.1, 0.2 and 0.3)."""


class AugmentedPyramid(FeaturePyramid):
    """FPN with residual feature augmentation; while training it also gives its maps before they are added up."""

    def __init__(
        self,
        in_channels: Mapping[str, int],
        channels: int,
        upsample: nn.Module,
        top: nn.Module,
        norm: str = "none",
    ) -> None:
        super().__init__(in_channels, channels, upsample, top, norm)
        self.augment = ResidualAugmentation(list(in_channels.values())[-1], channels)

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backbone maps to {"p2": (N, C, H/4, W/4), ..., "p6": (N, C, H/64, W/64)}, or p3..p7; training, m2..m5 too."""
        before = lateral_maps(features, self.lateral)
        coarsest = list(before)[-1]
        augmented = before[coarsest] + self.augment(features[coarsest.replace("p", "res")])
        merged = fused({**before, coarsest: augmented}, self.upsample)
        pyramid = {level: self.output[level](x) for level, x in merged.items()}
        pyramid |= self.top({**features, **pyramid})
        if self.training:
            pyramid |= {before_fusion(level): x for level, x in before.items()}
        return pyramid


class ResidualAugmentation(nn.Module):
    """Ratio-invariant adaptive pooling: contexts of three sizes, back at the map's size and fused (figure 3).

    Args:
        in_channels: of the backbone's coarsest map.
        channels: width of the pyramid.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(_conv(in_channels, channels, 1) for _ in _TENTHS)
        self.fusion = SpatialFusion(channels, len(_TENTHS))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C', H, W) to (N, C, H, W)."""
        # A 1x1 convolution and a mean give the same in either order.
        contexts = [smoothed(conv(x), tenths) for tenths, conv in zip(_TENTHS, self.reduce, strict=True)]
        fusion: Tensor = self.fusion(contexts)
        return fusion


class SpatialFusion(nn.Module):
    """Adaptive spatial fusion: maps added up with weights in 0..1 of each place, made of all the maps.

    Args:
        channels: of each map.
        count: number of maps.
    """

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.hidden = _conv(channels * count, channels, 1)
        self.weights = _conv(channels, count, 3)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """`count` maps (N, C, H, W) to one."""
        weights = self.weights(
            torch.relu(self.hidden(torch.cat(list(maps), dim=1)))
        ).sigmoid()  # (N, L, H, W)
        return torch.stack([x * weights[:, index, None] for index, x in enumerate(maps)]).sum(dim=0)


def before_fusion(level: str) -> str:
    """The name of a level's lateral map, m5 of p5."""
    return level.replace("p", "m")


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    conv = Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
