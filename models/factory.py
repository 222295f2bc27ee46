"""How networks are put together from a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from srfgan.models.backbones.anatomy import LEVELS
from srfgan.models.backbones.resnest import build_resnest
from srfgan.models.backbones.resnet import ResNet, build_resnet
from srfgan.models.backbones.swin import Swin
from srfgan.models.backbones.timm_backbone import TimmBackbone
from srfgan.models.backbones.timm_names import with_own_pixels
from srfgan.models.backbones.trident import TridentResNet
from srfgan.models.backbones.vovnet import VoVNet
from srfgan.models.config import (
    ATSSConfig,
    BackboneConfig,
    CascadeMaskRCNNConfig,
    CascadeRCNNConfig,
    CenterMaskConfig,
    DiscriminatorConfig,
    FasterRCNNConfig,
    FCOSConfig,
    GeneratorConfig,
    LibraRCNNConfig,
    MaskRCNNConfig,
    ModelConfig,
    NeckConfig,
    PANetConfig,
    RetinaNetConfig,
    SparseRCNNConfig,
    TridentNetConfig,
    TwoStageConfig,
)
from srfgan.models.detector import Detector, Head
from srfgan.models.discriminator import Discriminator
from srfgan.models.errors import InputError, kind_of
from srfgan.models.heads.adaptive_pooling import AdaptiveBoxHead
from srfgan.models.heads.atss_head import ATSSHead
from srfgan.models.heads.box_head import BoxHead
from srfgan.models.heads.c5_head import C5BoxHead
from srfgan.models.heads.cascade_head import CascadeBoxHead
from srfgan.models.heads.centermask_head import CenterMaskHead
from srfgan.models.heads.consistent_supervision import ConsistentSupervision
from srfgan.models.heads.fcos_head import FCOSHead
from srfgan.models.heads.libra_head import LibraHead, balanced_box_head
from srfgan.models.heads.mask_attention import SpatialAttention
from srfgan.models.heads.mask_head import MaskHead
from srfgan.models.heads.mask_iou_head import MaskIoUHead
from srfgan.models.heads.panet_mask_head import PANetMaskHead
from srfgan.models.heads.retinanet_head import RetinaNetHead
from srfgan.models.heads.rpn import RegionProposals
from srfgan.models.heads.soft_selection import SoftSelection
from srfgan.models.heads.sparse_head import SparseHead
from srfgan.models.heads.trident_head import TridentHead
from srfgan.models.heads.two_stage import TwoStageHead
from srfgan.models.necks.augfpn import AugmentedPyramid
from srfgan.models.necks.bifpn_wirings import build_bifpn
from srfgan.models.necks.extra_levels import ConvLevels, PooledLevel
from srfgan.models.necks.fpn import FeaturePyramid
from srfgan.models.necks.pafpn import PathAggregation, PathAugmentation
from srfgan.models.necks.single_level import SingleLevel
from srfgan.models.ops.convolution import use_winograd
from srfgan.models.upsamplers import GENERATORS, SIZED, UPSAMPLERS

RES_LEVELS = tuple(LEVELS)


def build_detector(config: ModelConfig) -> Detector:
    """A detector with random weights; nothing is downloaded.

    Raises:
        InputError: `config` is something else, as a preset's name or a whole preset; or timm has not its backbone.
    """
    _check_config(config, ModelConfig, "build_detector", "as load_preset(name).model has it")
    config = with_own_pixels(config)
    if isinstance(config, TridentNetConfig):
        detector = build_tridentnet(config)
    else:
        used = [name for name in RES_LEVELS if name.replace("res", "p") in config.levels]
        backbone = build_backbone(config.backbone, used)
        widths = {name: backbone.channels[name] for name in used}
        neck = build_neck(config.neck, widths, build_coarser_levels(config, widths["res5"]))
        detector = Detector(config, backbone=backbone, neck=neck, head=build_head(config))
    use_winograd(detector, config.inference.winograd)
    # The layout of the feature maps, so that no convolution reorders its weight in every call.
    return detector.to(memory_format=torch.channels_last)


def build_backbone(
    config: BackboneConfig, levels: Sequence[str] = RES_LEVELS
) -> ResNet | VoVNet | Swin | TimmBackbone:
    """A backbone with random weights; one of layer norms has one for each of `levels` and gives only these.

    Raises:
        InputError: timm has no network of that name, or it cannot be a backbone.
    """
    if config.timm_name is not None:
        return TimmBackbone(config, levels)
    if config.name in ("v39", "v99"):
        return VoVNet(config)
    if config.name in ("swin_t", "swin_l"):
        return Swin(config, levels)
    return build_resnest(config) if config.name == "s101" else build_resnet(config)


def build_neck(config: NeckConfig, in_channels: Mapping[str, int], top: nn.Module | None = None) -> nn.Module:
    """The feature pyramid on backbone maps of `in_channels`, finest first.

    Args:
        config: kind, width and upsampler.
        in_channels: channels of the backbone maps.
        top: makes the levels above p5, by default a pooled p6; a BiFPN has its own.
    """
    upsample = build_upsampler(config.upsampler, config.channels, config.generator)
    top = top or PooledLevel()
    if config.name == "bifpn":
        return build_bifpn(config, in_channels, upsample)
    if config.name == "pafpn":
        path = PathAugmentation if config.pafpn.wiring == "paper" else PathAggregation
        return path(in_channels, config.channels, upsample, top, config.norm)
    if config.name == "augfpn":
        return AugmentedPyramid(in_channels, config.channels, upsample, top, config.norm)
    return FeaturePyramid(in_channels, config.channels, upsample, top, config.norm)


def build_coarser_levels(config: ModelConfig, res5_channels: int) -> PooledLevel | ConvLevels:
    """The levels above p5: p6 and p7 by convolutions for one-stage detectors, or p6 by pooling."""
    channels = config.neck.channels
    if config.coarser_from is None:
        return PooledLevel()
    return ConvLevels(
        config.coarser_from, res5_channels if config.coarser_from == "res5" else channels, channels
    )


def build_tridentnet(config: TridentNetConfig) -> Detector:
    """A detector without a neck: RPN and boxes on res4 of every branch, and the backbone's res5 in the box head."""
    trident, (level,) = config.trident, config.levels
    backbone = TridentResNet(build_resnet(config.backbone), trident.dilations, trident.test_branch)
    rpn = RegionProposals(backbone.channels["res4"], config.anchors, config.levels, config.rpn)
    box = C5BoxHead(backbone.res5, backbone.channels["res5"], config.num_classes, config.c5_head)
    head = TridentHead(rpn, box, trident, level, config.inference)
    return Detector(config, backbone=backbone, neck=SingleLevel("res4"), head=head)


def build_head(config: ModelConfig) -> Head:
    """The head of a detector with a neck; a detector of one's own has its line here."""
    channels, classes, inference = config.neck.channels, config.num_classes, config.inference
    match config:
        case LibraRCNNConfig():
            return build_libra_head(config)
        case TwoStageConfig():
            return build_two_stage_head(config)
        case RetinaNetConfig():
            return RetinaNetHead(channels, classes, config.anchors, config.retinanet, inference)
        case FCOSConfig():
            return FCOSHead(channels, classes, config.fcos, inference)
        case ATSSConfig():
            return ATSSHead(channels, classes, config.atss, inference)
        case CenterMaskConfig():
            return build_centermask_head(config)
        case SparseRCNNConfig():
            return SparseHead(config.pool_levels, channels, classes, config.sparse_rcnn, inference)
    raise InputError(
        f"there is no head for {type(config).__name__}: srfgan.models.factory.build_head has to know it"
    )


def build_two_stage_head(config: TwoStageConfig) -> TwoStageHead:
    """RPN, one box head or the three of Cascade R-CNN, and a mask head where the detector has masks."""
    if config.neck.name == "augfpn" and isinstance(config, FasterRCNNConfig | MaskRCNNConfig):
        return build_augfpn_head(config)
    channels, classes, pooled = config.neck.channels, config.num_classes, len(config.pool_levels)
    rpn = RegionProposals(channels, config.anchors, config.levels, config.rpn)
    box: BoxHead | CascadeBoxHead
    mask: MaskHead | None = None
    match config:
        case PANetConfig():
            box = AdaptiveBoxHead(channels, classes, config.box_head, pooled)
            mask = PANetMaskHead(channels, classes, config.mask_head, pooled)
        case CascadeRCNNConfig() | CascadeMaskRCNNConfig():
            box = CascadeBoxHead(channels, classes, config.box_head, config.cascade)
        case _:
            box = BoxHead(channels, classes, config.box_head)
    if isinstance(config, MaskRCNNConfig | CascadeMaskRCNNConfig):
        mask = MaskHead(channels, classes, config.mask_head)
    return TwoStageHead(rpn, box, mask, config.pool_levels, config.inference)


def build_augfpn_head(config: FasterRCNNConfig | MaskRCNNConfig) -> TwoStageHead:
    """Faster or Mask R-CNN that pools from all levels, with heads beside it that learn on the levels before fusion."""
    channels, classes, levels = config.neck.channels, config.num_classes, config.pool_levels
    rpn = RegionProposals(channels, config.anchors, config.levels, config.rpn)
    box = BoxHead(channels, classes, config.box_head, selection=SoftSelection(channels, len(levels)))
    before_box, mask, before_mask = BoxHead(channels, classes, config.box_head), None, None
    if isinstance(config, MaskRCNNConfig):
        mask = MaskHead(channels, classes, config.mask_head, selection=SoftSelection(channels, len(levels)))
        before_mask = MaskHead(channels, classes, config.mask_head)
    supervision = ConsistentSupervision(levels, before_box, before_mask)
    return TwoStageHead(rpn, box, mask, levels, config.inference, supervision)


def build_libra_head(config: LibraRCNNConfig) -> LibraHead:
    """Faster R-CNN's RPN and box head, balanced, on balanced features."""
    channels, libra = config.neck.channels, config.libra
    rpn = RegionProposals(
        channels,
        config.anchors,
        config.levels,
        config.rpn,
        negatives_per_positive=libra.rpn_negatives_per_positive,
    )
    box = balanced_box_head(channels, config.num_classes, config.box_head, libra)
    return LibraHead(channels, rpn, box, config.pool_levels, config.inference)


def build_centermask_head(config: CenterMaskConfig) -> CenterMaskHead:
    """FCOS with CenterMask's mask branch."""
    channels, classes, own = config.neck.channels, config.num_classes, config.centermask
    mask_iou = MaskIoUHead(
        channels,
        classes,
        num_convs=own.iou_convs,
        conv_channels=config.mask_head.channels,
        fc_dim=own.iou_fc_dim,
        resolution=config.mask_head.resolution,
    )
    return CenterMaskHead(
        channels,
        classes,
        config.fcos,
        own,
        mask=MaskHead(channels, classes, config.mask_head, SpatialAttention()),
        mask_iou=mask_iou,
        pool_levels=config.pool_levels,
        inference=config.inference,
    )


def build_upsampler(name: str, channels: int, size: GeneratorConfig | None = None) -> nn.Module:
    """Any x2 upsampler by its name in `srfgan.models.upsamplers.UPSAMPLERS`, for maps of `channels`.

    Args:
        name: of the upsampler.
        channels: of the maps.
        size: of `srf`, which alone has one to choose; None: the paper's.

    Raises:
        InputError: for any other name, channels that it cannot have, or a size where there is none to choose.
    """
    _check_name(name, tuple(UPSAMPLERS), "upsampler")
    _check_channels(channels, "channels")
    module, made_by = UPSAMPLERS[name].split(":")
    sizes = _sizes(name, channels, size)
    upsampler: nn.Module = getattr(import_module(f"srfgan.models.upsamplers.{module}"), made_by)(
        channels, **sizes
    )
    return upsampler


def build_generator(name: str, channels: int = 256, size: GeneratorConfig | None = None) -> nn.Module:
    """The generator G: `srf` (the paper's body) or `afi` (the published checkpoints' body).

    Args:
        name: of the body.
        channels: of the maps.
        size: of `srf`; None: the paper's.

    Raises:
        InputError: as `build_upsampler`.
    """
    _check_name(name, GENERATORS, "generator")
    return build_upsampler(name, channels, size)


def build_discriminator(config: DiscriminatorConfig, in_channels: int = 256) -> Discriminator:
    """The discriminator D for feature maps of `in_channels`.

    Raises:
        InputError: `config` is something else, or channels that it cannot have.
    """
    _check_config(
        config, DiscriminatorConfig, "build_discriminator", "as load_preset(name).discriminator has it"
    )
    _check_channels(in_channels, "in_channels")
    return Discriminator(in_channels, config.widths, config.kernel, config.normalization)


def _sizes(name: str, channels: int, size: GeneratorConfig | None) -> dict[str, int]:
    if size is None:
        return {}
    _check_config(size, GeneratorConfig, "build_upsampler", "as GeneratorConfig(width=64), for its size")
    if name != SIZED:
        raise InputError(f"{name!r} has no size to choose; {SIZED!r} has")
    return size.sizes(channels)


def _check_config(config: Any, wanted: type, function: str, where: str) -> None:
    if not isinstance(config, wanted):
        given = repr(config) if isinstance(config, str) else kind_of(config)
        raise InputError(f"{function} takes a {wanted.__name__}, {where}, and got {given}")


def _check_name(name: Any, names: Sequence[str], what: str) -> None:
    if name not in names:
        raise InputError(
            f"no {what} named {name!r}: choose {', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
        )


def _check_channels(channels: Any, name: str) -> None:
    if type(channels) is not int or channels < 1:
        raise InputError(f"{name} must be a whole number from 1, got {channels!r}")
