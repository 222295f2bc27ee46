"""The feature pyramid network (FPN paper, section 3) with any upsampler in its top-down path."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from srfgan.models.ops.conv_norm import ConvNorm
from srfgan.models.ops.convolution import Conv2d
from srfgan.models.upsamplers.seam import upsample_to


class FeaturePyramid(nn.Module):
    """FPN: lateral 1x1, top-down sum, output 3x3; and coarser levels on top.

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
        self.output = nn.ModuleDict(
            {level: pyramid_conv(channels, channels, 3, norm) for level in self.lateral}
        )
        self.upsample = upsample
        self.top = top

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backbone maps to {"p2": (N, C, H/4, W/4), ..., "p6": (N, C, H/64, W/64)}, or p3..p7."""
        merged = top_down(features, self.lateral, self.upsample)
        pyramid = {level: self.output[level](x) for level, x in merged.items()}
        coarser: dict[str, Tensor] = self.top({**features, **pyramid})
        return pyramid | coarser


def top_down(
    features: Mapping[str, Tensor], lateral: nn.ModuleDict, upsample: nn.Module
) -> dict[str, Tensor]:
    """Each level's lateral map plus the upsampled sum of the level above; finest first, as `lateral`."""
    return fused(lateral_maps(features, lateral), upsample)


def lateral_maps(features: Mapping[str, Tensor], lateral: nn.ModuleDict) -> dict[str, Tensor]:
    """Each level's lateral map alone, finest first."""
    return {level: conv(features[level.replace("p", "res")]) for level, conv in lateral.items()}


def fused(laterals: Mapping[str, Tensor], upsample: nn.Module) -> dict[str, Tensor]:
    """Each of the maps, finest first, plus the upsampled sum of the level above."""
    merged: dict[str, Tensor] = {}
    above: Tensor | None = None
    for level, x in reversed(list(laterals.items())):
        above = x if above is None else x + upsample_to(upsample, above, x)
        merged[level] = above
    return dict(reversed(merged.items()))


def lateral_convs(in_channels: Mapping[str, int], channels: int, norm: str) -> nn.ModuleDict:
    """A 1x1 convolution to `channels` for each backbone level, by the pyramid level's name."""
    convs = {
        _pyramid_name(name): pyramid_conv(width, channels, 1, norm) for name, width in in_channels.items()
    }
    return nn.ModuleDict(convs)


def pyramid_conv(in_channels: int, channels: int, kernel: int, norm: str, stride: int = 1) -> nn.Conv2d:
    """A convolution of a neck in detectron2's initial state, without activation.

    Args:
        norm: `none` gives it a bias, `bn` a BatchNorm instead.
    """
    conv = Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=norm == "none")
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is None:
        return ConvNorm(conv, nn.BatchNorm2d(channels))
    nn.init.zeros_(conv.bias)
    return conv


def _pyramid_name(backbone_name: str) -> str:
    return backbone_name.replace("res", "p")
