"""The path aggregation network's neck (PANet paper, section 3.1): FPN, and a path back down to the coarse levels.

`PathAugmentation` is the paper's, `PathAggregation` what the two repositories' published weights have.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from srfgan.models.necks.fpn import FeaturePyramid, lateral_convs, pyramid_conv, top_down


class PathAggregation(nn.Module):
    """PAFPN: FPN's top-down sums t2..t5, then n2 = t2, n(i+1) = t(i+1) + ReLU(stride-2 3x3 of n(i)).

    The output 3x3 convolutions are applied to n2..n5 beside the path, not within it. Where it departs from the
    paper, this is the neck of AFI-GAN's and SRF-GAN's published weights.

    Args:
        in_channels: channels of the backbone levels that are used, `{"res2": 256, ...}`, finest first.
        channels: width of the pyramid.
        upsample: any upsampler, plain or guided by the lateral maps (`srfgan.models.upsamplers`); one for all levels.
        top: maps of the backbone and the pyramid, by name, to the levels above p5.
        norm: `none` (convolutions with biases) or `bn` (BatchNorm after each convolution).

    Attributes:
        upsample: that module; for the learned ones, G.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        channels: int,
        upsample: nn.Module,
        top: nn.Module,
        norm: str = "none",
    ) -> None:
        super().__init__()
        self.lateral = lateral_convs(in_channels, channels, norm)
        levels = list(self.lateral)
        self.downsample = nn.ModuleDict(
            {level: pyramid_conv(channels, channels, 3, norm, stride=2) for level in levels[1:]}
        )
        self.path_output = nn.ModuleDict(
            {level: pyramid_conv(channels, channels, 3, norm) for level in levels}
        )
        self.upsample = upsample
        self.top = top

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backbone maps to {"p2": (N, C, H/4, W/4), ..., "p6": (N, C, H/64, W/64)}, or p3..p7."""
        path = top_down(features, self.lateral, self.upsample)
        for finer, level in pairwise(path):
            path[level] = path[level] + torch.relu_(self.downsample[level](path[finer]))
        pyramid = {level: self.path_output[level](x) for level, x in path.items()}
        coarser: dict[str, Tensor] = self.top({**features, **pyramid})
        return pyramid | coarser


class PathAugmentation(FeaturePyramid):
    """FPN's outputs P2..P5, then N2 = P2, N(i+1) = ReLU(3x3 of (P(i+1) + ReLU(stride-2 3x3 of N(i))))."""

    def __init__(
        self,
        in_channels: Mapping[str, int],
        channels: int,
        upsample: nn.Module,
        top: nn.Module,
        norm: str = "none",
    ) -> None:
        super().__init__(in_channels, channels, upsample, top, norm)
        coarser = list(self.lateral)[1:]
        self.downsample = nn.ModuleDict(
            {level: pyramid_conv(channels, channels, 3, norm, stride=2) for level in coarser}
        )
        self.path_output = nn.ModuleDict(
            {level: pyramid_conv(channels, channels, 3, norm) for level in coarser}
        )

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backbone maps to {"p2": (N, C, H/4, W/4), ..., "p6": (N, C, H/64, W/64)}, or p3..p7."""
        merged = top_down(features, self.lateral, self.upsample)
        pyramid = {level: self.output[level](x) for level, x in merged.items()}
        for finer, level in pairwise(merged):
            summed = pyramid[level] + torch.relu_(self.downsample[level](pyramid[finer]))
            pyramid[level] = torch.relu_(self.path_output[level](summed))
        coarser: dict[str, Tensor] = self.top({**features, **pyramid})
        return pyramid | coarser
