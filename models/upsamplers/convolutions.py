"""Learned upsampling by one convolution: transposed, or with the new pixels as channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.ops.convolution import Conv2d, ConvTranspose2d


class Deconvolution(nn.Module):
    """A transposed 4x4 convolution of stride 2 that starts as bilinear interpolation.

    The initial state is that of fully convolutional networks (Long et al., "Fully Convolutional Networks for
    Semantic Segmentation", section 4.3); it takes zeros outside the map, where interpolation repeats the edge.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
        taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
        with torch.no_grad():
            self.up.weight.zero_()
            self.up.weight.diagonal().copy_(torch.outer(taps, taps)[..., None].to(self.up.weight.device))
        assert self.up.bias is not None
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W)."""
        y: Tensor = self.up(x)
        return y


class SubPixelConvolution(nn.Module):
    """A 3x3 convolution to the four new pixels of each old one ("pixel shuffle").

    Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network", section 3.2. The four start alike, as nearest neighbour does, so that no checkerboard is
    there from the beginning (Aitken et al., "Checkerboard artifact free sub-pixel convolution").
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, 4 * channels, 3, padding=1)
        nn.init.kaiming_uniform_(self.conv.weight, a=1)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)
        with torch.no_grad():
            first = self.conv.weight[::4].clone()
            self.conv.weight.copy_(first.repeat_interleave(4, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W)."""
        return F.pixel_shuffle(self.conv(x), 2)
