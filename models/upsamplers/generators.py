"""The generators G of SRF-GAN and AFI-GAN: upsamplers that stage 1 trains adversarially."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.ops import winograd
from srfgan.models.ops.convolution import Conv2d, ConvTranspose2d, goes_by_winograd, transformed
from srfgan.models.ops.recomputation import in_parts

SLOPE = 0.2
"""Negative slope of every LeakyReLU in the generators and the discriminator."""


class SRFGenerator(nn.Module):
    """G of the SRF-GAN paper (section 3.1): residual blocks, one deconvolution, plus the bilinear input.

    The last convolution starts small: in training mode, an untrained generator adds some 0.16 of a random map's norm
    to its bilinear interpolation, at any width; in evaluation mode, before its batch norms have seen a map, several
    times as much.

    Args:
        channels: of the map.
        width: channels inside, to which a 1x1 convolution leads down; the last one, 1x1 too, leads back up. None: as
            many as the map has, without that first convolution, as in the paper.
        blocks: how many residual blocks; 5 in the paper.

    Attributes:
        recompute: whether activations are computed again in the backward pass, for less memory.
    """

    recompute = False

    def __init__(self, channels: int, width: int | None = None, blocks: int = 5) -> None:
        super().__init__()
        inside = channels if width is None else width
        self.down = nn.Identity() if width is None else nn.Conv2d(channels, inside, 1)
        self.head = Conv2d(inside, inside, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(inside) for _ in range(blocks)))
        self.trunk = Conv2d(inside, inside, 3, padding=1, bias=False)
        self.trunk_norm = nn.BatchNorm2d(inside)
        self.up = ConvTranspose2d(inside, inside, 6, stride=2, padding=2, bias=False)
        self.up_norm = nn.BatchNorm2d(inside)
        self.tail = nn.Conv2d(inside, channels, 1)
        _init_convolutions(self, gain=1.0)
        _init_convolutions(self.tail, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W)."""
        if all(goes_by_winograd(x, *layer) for layer in self._layers()):
            return self._by_tiles(x)
        y = _leaky(self.head(self.down(x)))
        y = in_parts(self, [self.blocks, self._enlarged], y, recompute=self.recompute)
        return torch.add(y, _bilinear(x))

    def _layers(self) -> Iterator[tuple[Conv2d | ConvTranspose2d, nn.BatchNorm2d | None]]:
        """The large convolutions and the norm after each."""
        yield self.head, None
        for block in self.blocks:
            assert isinstance(block, ResidualBlock)
            yield block.conv1, block.norm1
            yield block.conv2, block.norm2
        yield self.trunk, self.trunk_norm
        yield self.up, self.up_norm

    def _by_tiles(self, x: Tensor) -> Tensor:
        """The same by Winograd's algorithm, in two maps cut into tiles, with the norms folded into the weights."""
        y = winograd.cut(self.down(x))
        other = y.like()
        head, *middle, trunk, up = (transformed(*layer) for layer in self._layers())
        winograd.convolve(y, *head, other, slope=SLOPE)
        for first, second in zip(middle[::2], middle[1::2], strict=True):
            winograd.convolve(other, *first, y, slope=SLOPE)
            winograd.convolve(y, *second, other, add=True)
        winograd.convolve(other, *trunk, y, slope=SLOPE)
        assert self.tail.bias is not None
        # A bias passes through the interpolation as it is, over a quarter of the pixels.
        result = _bilinear(x + self.tail.bias.view(-1, 1, 1)).permute(0, 2, 3, 1).contiguous()
        last = self.tail.weight.flatten(1).T
        for block, place in winograd.blocks(y, *up, result):
            for pixels, where in winograd.pixels_of(_leaky(block) @ last, place):
                where += pixels
        return result.permute(0, 3, 1, 2)

    def _enlarged(self, y: Tensor) -> Tensor:
        y = _leaky(self.trunk_norm(self.trunk(y)))
        y = _leaky(self.up_norm(self.up(y)))
        enlarged: Tensor = self.tail(y)
        return enlarged


class ResidualBlock(nn.Module):
    """Convolution, BN, LeakyReLU, convolution, BN, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        y = _leaky(self.norm1(self.conv1(x)))
        return torch.add(self.norm2(self.conv2(y)), x)


class AFIGenerator(nn.Module):
    """G of the published checkpoints of both papers: residual dense blocks without normalisation.

    Kaiming initialisation times 0.1, so an untrained generator is nearly a bilinear interpolation.

    Attributes:
        recompute: as of `SRFGenerator`.
    """

    RESIDUAL_SCALE = 0.2
    recompute = False

    def __init__(self, channels: int, num_blocks: int = 3, growth: int = 32) -> None:
        super().__init__()
        self.head = Conv2d(channels, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(num_blocks)))
        self.trunk = Conv2d(channels, channels, 3, padding=1)
        self.up = ConvTranspose2d(channels, channels, 6, stride=2, padding=2)
        self.tail = Conv2d(channels, channels, 3, padding=1)
        _init_convolutions(self, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W)."""
        y = _leaky(self.head(x))
        residual = in_parts(self, [self.blocks], y, recompute=self.recompute)
        y = torch.add(y, residual, alpha=self.RESIDUAL_SCALE)
        return torch.add(in_parts(self, [self._enlarged], y, recompute=self.recompute), _bilinear(x))

    def _enlarged(self, y: Tensor) -> Tensor:
        y = _leaky(self.trunk(y))
        y = _leaky(self.up(y))
        enlarged: Tensor = self.tail(y)
        return enlarged


class DenseBlock(nn.Module):
    """Four growing convolutions, each seeing all before it, and a fifth back to the width; plus the input."""

    RESIDUAL_SCALE = 0.2

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        widths = [growth] * 4 + [channels]
        self.convs = nn.ModuleList(
            Conv2d(channels + growth * i, width, 3, padding=1, bias=False) for i, width in enumerate(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        seen = [x]
        for conv in self.convs[:-1]:
            seen.append(_leaky(conv(torch.cat(seen, dim=1))))
        y = self.convs[-1](torch.cat(seen, dim=1))
        return torch.add(x, y, alpha=self.RESIDUAL_SCALE)


def make_phases_equal(generator: nn.Module) -> None:
    """Let the deconvolution start as a nearest-neighbour upsampling and a 3x3 convolution: no checkerboard yet.

    Each pixel of a 2x2 cell is made by its own nine of the 36 taps, all from the same 3x3 pixels below; random ones
    differ, which draws a grid of period two. As ICNR does for sub-pixel convolutions (Aitken et al. 2017).

    Args:
        generator: an `SRFGenerator` or `AFIGenerator`, changed in place.
    """
    with torch.no_grad():
        taps = generator.get_parameter("up.weight")
        first = taps[..., ::2, ::2].clone()
        for down, right in ((0, 1), (1, 0), (1, 1)):
            taps[..., down::2, right::2] = first


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE, inplace=True)


def _bilinear(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _init_convolutions(module: nn.Module, gain: float) -> None:
    """Kaiming normal (fan in) times `gain`, zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight)
            with torch.no_grad():
                layer.weight.mul_(gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
