"""ResNets from timm with detectron2's conventions: frozen norms, frozen stages, stride in the 1x1."""

from __future__ import annotations

from typing import Any

import timm
import torch.nn.functional as F
from timm.models.resnet import Bottleneck
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from models.config import BackboneConfig

TIMM_NAMES = {"r10": "resnet18", "r18": "resnet18", "r50": "resnet50", "r101": "resnet101"}
TIMM_CHANGES: dict[str, dict[str, Any]] = {"r10": {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}}
"""What a backbone has otherwise than timm's of that name; such a one has no pre-trained weights."""

_STAGES = ["stem", "layer1", "layer2", "layer3", "layer4"]


class ConvNorm(nn.Conv2d):
    """A convolution without bias and its normalisation.

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
            bias=False,
        )
        self.weight = conv.weight
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W'), without activation."""
        if not isinstance(self.norm, FrozenBatchNorm2d):
            y: Tensor = self.norm(super().forward(x))
            return y
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        shift = self.norm.bias - self.norm.running_mean * scale
        return F.conv2d(x, self.weight * scale[:, None, None, None], shift, self.stride, self.padding)


class ResNet(nn.Module):
    """A timm ResNet that gives {"res2", "res3", "res4", "res5"}.

    Attributes:
        body: timm's feature extractor, its norms joined to their convolutions.
        channels: channels of each output.
    """

    body: Any

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.body = timm.create_model(
            TIMM_NAMES[config.name],
            **TIMM_CHANGES.get(config.name, {}),
            features_only=True,
            out_indices=(1, 2, 3, 4),
            zero_init_last=False,  # needs many iterations to open up the branches; ours may have few
        )
        self.channels = dict(
            zip(["res2", "res3", "res4", "res5"], self.body.feature_info.channels(), strict=True)
        )
        if config.stride_in_1x1:
            _move_strides_to_1x1(self.body)
        for depth, stage in enumerate(_STAGES):
            frozen = depth < config.freeze_at
            for module in [self.body] if stage == "stem" else list(self.body[stage].modules()):
                _join_norms(module, frozen_norm=frozen or config.norm == "frozen_bn")
            if frozen:
                self.body["conv1" if stage == "stem" else stage].requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) to feature maps (N, C, H/s, W/s), s = 4, 8, 16, 32."""
        return dict(zip(self.channels, self.body(x), strict=True))


def _join_norms(parent: nn.Module, *, frozen_norm: bool) -> None:
    """Replace each (convolution, BatchNorm) among the direct children of `parent` by (ConvNorm, nothing)."""
    conv_name = ""
    for name, child in list(parent.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            norm = FrozenBatchNorm2d(child.num_features, child.eps) if frozen_norm else child
            setattr(parent, conv_name, ConvNorm(getattr(parent, conv_name), norm))
            setattr(parent, name, nn.Identity())
        conv_name = name


def _move_strides_to_1x1(body: nn.Module) -> None:
    """Stride in the first convolution of each bottleneck, as in the MSRA weights; basic blocks stay."""
    for block in body.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
