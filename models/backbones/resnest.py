"""ResNeSt from timm (ResNeSt paper): split attention in each bottleneck, a deep stem, pooled shortcuts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import timm
from timm.models.resnest import ResNestBottleneck
from torch import nn

from srfgan.models.backbones.resnet import ResNet
from srfgan.models.config import BackboneConfig

TIMM_NAMES = {"s101": "resnest101e"}


def build_resnest(config: BackboneConfig) -> ResNet:
    """A ResNeSt with random weights; strides sit in average pools, whatever `config.stride_in_1x1` says."""
    body = timm.create_model(
        TIMM_NAMES[config.name],
        features_only=True,
        out_indices=(1, 2, 3, 4),
        zero_init_last=False,
    )
    _name_like_resnet(body)
    return ResNet(body, config)


def _name_like_resnet(body: Any) -> None:
    """Bring the stem's last norm into the stem, and give a shortcut's convolution and norm ResNet's names."""
    body["conv1"].append(body["bn1"])
    body["bn1"] = nn.Identity()
    for block in body.modules():
        if isinstance(block, ResNestBottleneck) and block.downsample is not None:
            pool, conv, norm = block.downsample.children()
            block.downsample = nn.Sequential(OrderedDict([("pool", pool), ("0", conv), ("1", norm)]))
