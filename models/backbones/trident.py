"""TridentNet's backbone (section 4.1): res4 at several dilations, by one set of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from srfgan.models.backbones.resnet import ResNet
from srfgan.models.ops.conv_norm import ConvNorm


class TridentResNet(nn.Module):
    """A ResNet that gives res4 of every branch; its res5 is there for a head to use.

    Args:
        resnet: the whole network. The second convolution of each block of its res4 is dilated: the 3x3 of a bottleneck.
        dilations: of each branch.
        test_branch: the one that is there in evaluation mode; None: all.

    Attributes:
        body: of the ResNet, whose names the parameters keep.
        channels: channels of res4 and res5.
    """

    body: Any

    def __init__(self, resnet: ResNet, dilations: Sequence[int], test_branch: int | None) -> None:
        super().__init__()
        self.body = resnet.body
        self.channels = {name: resnet.channels[name] for name in ("res4", "res5")}
        self.dilations, self.test_branch = tuple(dilations), test_branch
        for block in self.body["layer3"]:
            block.conv2 = BranchedConv(block.conv2, self.dilations, test_branch)

    @property
    def res5(self) -> nn.Module:
        """The last stage, (N, C, H, W) to (N, C', H/2, W/2); it stays a part of this module."""
        stage: nn.Module = self.body["layer4"]
        return stage

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) to {"res4": (B * N, C, H/16, W/16)}: all images of the first branch, then of the next."""
        for name, layer in self.body.items():
            if name == "layer3":
                branches = len(self.dilations) if self.training or self.test_branch is None else 1
                x = x.repeat(branches, 1, 1, 1)
            if name != "layer4":
                x = layer(x)
        return {"res4": x}


class BranchedConv(ConvNorm):
    """A padded 3x3 convolution and its norm, which each branch has at a dilation of its own.

    Args:
        conv: with the weights that all branches share. A batch norm takes its statistics over all of them.
        dilations: of each branch.
        test_branch: the one that is there in evaluation mode; None: all.
    """

    def __init__(self, conv: ConvNorm, dilations: Sequence[int], test_branch: int | None) -> None:
        super().__init__(conv, conv.norm)
        self.dilations, self.test_branch = tuple(dilations), test_branch

    def forward(self, x: Tensor) -> Tensor:
        """(B * N, C, H, W) to (B * N, C', H', W'), one branch after the other."""
        one = self.test_branch is not None and not self.training
        dilations = self.dilations[self.test_branch :][:1] if one else self.dilations
        frozen = isinstance(self.norm, FrozenBatchNorm2d)
        weight, shift = self._weight_and_shift(self.norm) if frozen else (self.weight, self.bias)
        maps = [
            F.conv2d(
                part, weight, shift, self.stride, padding=dilation, dilation=dilation, groups=self.groups
            )
            for part, dilation in zip(x.chunk(len(dilations)), dilations, strict=True)
        ]
        joined = torch.cat(maps)
        return joined if frozen else self.norm(joined)
