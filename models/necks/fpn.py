"""The feature pyramid network (FPN paper, section 3) with any upsampler in its top-down path."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class FeaturePyramid(nn.Module):
    """FPN: lateral 1x1, top-down sum, output 3x3; p6 is every second pixel of p5.

    Args:
        in_channels: backbone channels by level, `{"res2": 256, ...}`, finest first.
        channels: width of the pyramid.
        upsample: module mapping (N, C, H, W) to (N, C, 2H, 2W); one for all levels.

    Attributes:
        upsample: that module; for the learned ones, G.
    """

    def __init__(self, in_channels: Mapping[str, int], channels: int, upsample: nn.Module) -> None:
        super().__init__()
        self.lateral = nn.ModuleDict(
            {_pyramid_name(name): nn.Conv2d(width, channels, 1) for name, width in in_channels.items()}
        )
        self.output = nn.ModuleDict(
            {_pyramid_name(name): nn.Conv2d(channels, channels, 3, padding=1) for name in in_channels}
        )
        self.upsample = upsample
        for conv in [*self.lateral.values(), *self.output.values()]:
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backbone maps to {"p2": (N, C, H/4, W/4), ..., "p6": (N, C, H/64, W/64)}."""
        pyramid: dict[str, Tensor] = {}
        above: Tensor | None = None
        for source in reversed(list(features)):
            level = _pyramid_name(source)
            merged = self.lateral[level](features[source])
            if above is not None:
                merged = merged + self.upsample(above)
            above = merged
            pyramid[level] = self.output[level](merged)
        pyramid = dict(reversed(pyramid.items()))
        pyramid["p6"] = pyramid["p5"][:, :, ::2, ::2]
        return pyramid


def _pyramid_name(backbone_name: str) -> str:
    return backbone_name.replace("res", "p")
