"""The 3x3 convolutions of the RoI heads."""

from __future__ import annotations

from typing import Literal

from torch import nn

from srfgan.models.ops.conv_norm import ConvNorm
from srfgan.models.ops.convolution import Conv2d


def conv3x3(
    in_channels: int, out_channels: int, norm: Literal["none", "bn"], *, stride: int = 1
) -> nn.Conv2d:
    """A padded 3x3 convolution, with a bias (`none`) or with BatchNorm instead (`bn`)."""
    conv = Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=norm == "none")
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is None:
        return ConvNorm(conv, nn.BatchNorm2d(out_channels))
    nn.init.zeros_(conv.bias)
    return conv
