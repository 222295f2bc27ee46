"""A convolution joined to its batch norm, and the joining of those in a network of timm's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d


class ConvNorm(nn.Conv2d):
    """A convolution and its normalisation.

    A frozen norm is folded into the weight, so that it costs no pass over the feature map. Kernels, strides
    and paddings are the same in both directions.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            kernel_size=conv.kernel_size[0],
            stride=conv.stride[0],
            padding=int(conv.padding[0]),
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        self.weight = conv.weight
        self.bias = conv.bias
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W'), without activation."""
        if not isinstance(self.norm, FrozenBatchNorm2d):
            y: Tensor = self.norm(super().forward(x))
            return y
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        shift = self.norm.bias - self.norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        weight = self.weight * scale[:, None, None, None]
        return F.conv2d(x, weight, shift, self.stride, self.padding, groups=self.groups)


def join_norms(stage: nn.Module, *, frozen_norm: bool) -> None:
    """Replace each (convolution, batch norm) of neighbours anywhere in `stage` by (ConvNorm, what is left).

    What is left of a norm is the activation that timm's joint layers hold, or nothing.
    """
    for parent in list(stage.modules()):
        join_children(parent, frozen_norm=frozen_norm)


def join_children(parent: nn.Module, *, frozen_norm: bool) -> None:
    """As `join_norms`, among the direct children of `parent` only."""
    conv_name = ""
    for name, child in list(parent.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            rest = _take_activation(child)
            norm = FrozenBatchNorm2d(child.num_features, child.eps) if frozen_norm else child
            setattr(parent, conv_name, ConvNorm(getattr(parent, conv_name), norm))
            setattr(parent, name, rest)
        conv_name = name


def _take_activation(norm: nn.BatchNorm2d) -> nn.Module:
    activation = getattr(norm, "act", None)
    if not isinstance(activation, nn.Module):
        return nn.Identity()
    norm.act = nn.Identity()
    return activation
