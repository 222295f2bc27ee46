"""ResNets and ResNeXts from timm with detectron2's conventions: frozen norms and stages, stride in the 1x1."""

from __future__ import annotations

from typing import Any

import timm
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from srfgan.models.config import BackboneConfig
from srfgan.models.ops.conv_norm import join_children, join_norms

TIMM_NAMES = {
    "r10": "resnet18.tv_in1k",
    "r18": "resnet18.tv_in1k",
    "r50": "resnet50.tv_in1k",
    "r101": "resnet101.tv_in1k",
    "x101_64x4d": "resnext101_64x4d.gluon_in1k",
}
"""With the pre-trained weights that detection's recipes were made for: trained in the old way, for 90 to 120 epochs.

timm's default ones come from long trainings with strong augmentation, whose statistics suit frozen norms less.
"""
TIMM_CHANGES: dict[str, dict[str, Any]] = {"r10": {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}}
"""What a backbone has otherwise than timm's of that name; such a one has no pre-trained weights."""

_STAGES = ["layer1", "layer2", "layer3", "layer4"]


def build_resnet(config: BackboneConfig) -> ResNet:
    """A ResNet (ResNet paper, table 1) or ResNeXt (ResNeXt paper, section 3) with random weights."""
    body = timm.create_model(
        TIMM_NAMES[config.name],
        **TIMM_CHANGES.get(config.name, {}),
        features_only=True,
        out_indices=(1, 2, 3, 4),
        zero_init_last=False,  # needs many iterations to open up the branches; ours may have few
    )
    if config.stride_in_1x1:
        _move_strides_to_1x1(body)
    return ResNet(body, config)


class ResNet(nn.Module):
    """A timm network of ResNet's form that gives {"res2", "res3", "res4", "res5"}.

    Args:
        body: timm's feature extractor.
        config: which norms and stages are frozen.

    Attributes:
        body: the same, its norms joined to their convolutions.
        channels: channels of each output.
    """

    body: Any

    def __init__(self, body: Any, config: BackboneConfig) -> None:
        super().__init__()
        self.body = body
        self.channels = dict(zip(["res2", "res3", "res4", "res5"], body.feature_info.channels(), strict=True))
        stem_frozen, all_norms_frozen = config.freeze_at > 0, config.norm == "frozen_bn"
        join_norms(body["conv1"], frozen_norm=stem_frozen or all_norms_frozen)
        join_children(body, frozen_norm=stem_frozen or all_norms_frozen)
        body["conv1"].requires_grad_(not stem_frozen)
        for depth, stage in enumerate(_STAGES, start=1):
            frozen = depth < config.freeze_at
            join_norms(body[stage], frozen_norm=frozen or all_norms_frozen)
            body[stage].requires_grad_(not frozen)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) to feature maps (N, C, H/s, W/s), s = 4, 8, 16, 32."""
        return dict(zip(self.channels, self.body(x), strict=True))


def _move_strides_to_1x1(body: nn.Module) -> None:
    """Stride in the first convolution of each bottleneck, as in the MSRA weights; basic blocks stay."""
    for block in body.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
