"""How networks are put together from a config."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from models.backbones.resnet import ResNet
from models.config import DiscriminatorConfig, ModelConfig, NeckConfig
from models.detector import Detector
from models.discriminator import Discriminator
from models.heads.box_head import BoxHead
from models.heads.mask_head import MaskHead
from models.heads.rpn import RegionProposals
from models.heads.two_stage import TwoStageHead
from models.necks.fpn import FeaturePyramid
from models.necks.pafpn import PathAggregation
from models.upsamplers import (
    AFIGenerator,
    Carafe,
    Deconvolution,
    DySample,
    Interpolation,
    SRFGenerator,
    SubPixelConvolution,
)


def build_detector(config: ModelConfig) -> Detector:
    """A detector with random weights; nothing is downloaded."""
    backbone = ResNet(config.backbone)
    channels = config.neck.channels
    neck = build_neck(config.neck, backbone.channels)
    rpn = RegionProposals(channels, config.anchors, config.rpn)
    box = BoxHead(channels, config.num_classes, config.box_head)
    mask = MaskHead(channels, config.num_classes, config.mask_head) if config.has_masks else None
    head = TwoStageHead(rpn, box, mask, config.inference)
    detector = Detector(config, backbone=backbone, neck=neck, head=head)
    # The layout of the feature maps, so that no convolution reorders its weight in every call.
    return detector.to(memory_format=torch.channels_last)


def build_neck(config: NeckConfig, in_channels: Mapping[str, int]) -> nn.Module:
    """The feature pyramid on a backbone with `in_channels` by level, finest first."""
    upsample = build_upsampler(config.upsampler, config.channels)
    if config.name == "pafpn":
        return PathAggregation(in_channels, config.channels, upsample, config.norm)
    return FeaturePyramid(in_channels, config.channels, upsample, config.norm)


def build_upsampler(name: str, channels: int) -> nn.Module:
    """Any x2 upsampler by its config name (`models.config.UpsamplerName`), for maps of `channels`.

    Raises:
        ValueError: for any other name.
    """
    modes = {"nn": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"}
    if name in modes:
        return Interpolation(modes[name])
    if name == "deconv":
        return Deconvolution(channels)
    if name == "pixelshuffle":
        return SubPixelConvolution(channels)
    if name == "carafe":
        return Carafe(channels)
    if name == "dysample":
        return DySample(channels)
    return build_generator(name, channels)


def build_generator(name: str, channels: int = 256) -> nn.Module:
    """The generator G: `srf` (the paper's body) or `afi` (the published checkpoints' body).

    Raises:
        ValueError: for any other name.
    """
    if name == "srf":
        return SRFGenerator(channels)
    if name == "afi":
        return AFIGenerator(channels)
    raise ValueError(f"no generator named {name!r}: choose 'srf' or 'afi'")


def build_discriminator(config: DiscriminatorConfig, in_channels: int = 256) -> Discriminator:
    """The discriminator D for feature maps of `in_channels`."""
    return Discriminator(in_channels, config.widths, config.kernel)
