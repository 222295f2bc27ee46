"""The BiFPNs there are: the paper's, and those of AFI-GAN's and of AdelaiDet's published weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from srfgan.models.config import NeckConfig
from srfgan.models.necks.bifpn import BiFPN, BiFPNLayer
from srfgan.models.necks.extra_levels import MaxPooledLevels
from srfgan.models.ops.conv_norm import ConvNorm
from srfgan.models.ops.convolution import Conv2d

_LEVELS = ("p3", "p4", "p5", "p6", "p7")


def build_bifpn(config: NeckConfig, in_channels: Mapping[str, int], upsample: nn.Module) -> BiFPN:
    """The BiFPN of `config.bifpn.wiring`.

    Args:
        config: width, wiring and number of layers; all convolutions are normalised, whatever `norm` says.
        in_channels: channels of the backbone's maps, `{"res3": 512, "res4": ..., "res5": ...}`.
        upsample: any upsampler (`srfgan.models.upsamplers`).
    """
    build = {"paper": _paper, "afigan": _afigan, "adelaidet": _adelaidet}[config.bifpn.wiring]
    widths = {name.replace("res", "p"): width for name, width in in_channels.items()}
    return build(widths, config.channels, config.bifpn.repeats, upsample)


class SeparableConv(nn.Module):
    """A depthwise 3x3 without bias, then a pointwise 1x1 with its norm.

    Args:
        channels: before and after.
        bias: of the pointwise convolution.
    """

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        nn.init.kaiming_uniform_(self.depthwise.weight, a=1)
        self.pointwise = _conv(channels, channels, 1, bias=bias, norm=_efficientdet_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape, without activation."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


def _paper(widths: Mapping[str, int], channels: int, repeats: int, upsample: nn.Module) -> BiFPN:
    """EfficientDet's, sections 3.2 and 3.3: p6 and p7 by pooling, separable convolutions, normalised fusion."""
    conv = partial(_conv, kernel=1, bias=False, norm=_efficientdet_norm)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return BiFPN(
        lateral=nn.ModuleDict({level: conv(width, channels) for level, width in widths.items()}),
        top=MaxPooledLevels(conv(widths["p5"], channels), pool),
        layers=_layers(repeats, partial(SeparableConv, channels, bias=False), normalised=True),
        pool=pool,
        upsample=upsample,
    )


def _afigan(widths: Mapping[str, int], channels: int, repeats: int, upsample: nn.Module) -> BiFPN:
    """AFI-GAN's: raw fusion weights, the first laterals as skips everywhere, biases before the norms.

    Its pools pad zeros at the right and bottom only, and halve even sizes: images are padded to multiples of 128.
    """
    conv = partial(_conv, kernel=1, bias=True, norm=_efficientdet_norm)
    pool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, stride=2))
    p6 = _conv(widths["p5"], channels, 1, bias=True, norm=nn.BatchNorm2d)
    return BiFPN(
        lateral=nn.ModuleDict({level: conv(width, channels) for level, width in widths.items()}),
        skip=nn.ModuleDict({level: conv(widths[level], channels) for level in ("p4", "p5")}),
        top=MaxPooledLevels(p6, pool),
        layers=_layers(repeats, partial(SeparableConv, channels, bias=True), normalised=False),
        pool=pool,
        upsample=upsample,
        first_skips=True,
    )


def _adelaidet(widths: Mapping[str, int], channels: int, repeats: int, upsample: nn.Module) -> BiFPN:
    """AdelaiDet's: plain 3x3 convolutions and ordinary norms, laterals with biases."""
    conv = partial(_conv, norm=nn.BatchNorm2d)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    lateral = {level: conv(width, channels, 1, bias=True) for level, width in widths.items()}
    return BiFPN(
        lateral=nn.ModuleDict(lateral),
        top=MaxPooledLevels(conv(widths["p5"], channels, 1, bias=False), pool),
        layers=_layers(repeats, partial(conv, channels, channels, 3, bias=False), normalised=True),
        pool=pool,
        upsample=upsample,
    )


def _layers(repeats: int, conv: Callable[[], nn.Module], *, normalised: bool) -> list[BiFPNLayer]:
    return [BiFPNLayer(_LEVELS, conv, normalised=normalised) for _ in range(repeats)]


def _conv(
    in_channels: int,
    channels: int,
    kernel: int,
    *,
    bias: bool,
    norm: Callable[[int], nn.Module],
) -> ConvNorm:
    conv = Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=bias)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return ConvNorm(conv, norm(channels))


_efficientdet_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
"""EfficientDet's numbers; momentum is the share of the new batch."""
