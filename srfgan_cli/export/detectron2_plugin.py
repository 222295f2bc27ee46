"""SRF backbones for detectron2: importing this module registers them, so that any config can name them.

    from detectron2.config import get_cfg
    from srfgan_cli.detectron2_plugin import add_srfgan_config

    cfg = get_cfg()
    add_srfgan_config(cfg)
    cfg.merge_from_file("own.yaml")     # MODEL.BACKBONE.NAME: build_resnet_srf_fpn_backbone

Names are `build_{body}_srf_{neck}_backbone`: `resnet` is detectron2's own ResNet with all of MODEL.RESNETS,
`timm` the backbone in MODEL.SRF.BACKBONE; necks are `fpn`, `pafpn` and `bifpn`. The first two give p2..p6; with
`retinanet_` or `fcos_` before the body, p3..p7 with the coarse levels made of res5 or of p5. A `bifpn` gives
p3..p7. MODEL.FPN says IN_FEATURES, OUT_CHANNELS and NORM, MODEL.SRF.UPSAMPLER what the top-down path upsamples
with. Parameters have the names of AFI-GAN's and SRF-GAN's published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast, get_args

from torch import Tensor, nn

from srfgan.models.config import BackboneConfig, BackboneName, ModelConfig, parse_model
from srfgan.models.errors import InputError
from srfgan.models.factory import build_backbone, build_coarser_levels, build_neck
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan.models.weights.names import to_detectron2
from srfgan.models.weights.renamed import Renamed

try:
    from detectron2.config import CfgNode
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_resnet_backbone
except ImportError as error:
    raise ImportError(
        f"srfgan_cli.detectron2_plugin needs detectron2 ({error}), which is not on the package registry. Install it "
        "from its repository: "
        "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2"
    ) from error

_TOPS = {"": "mask_rcnn", "retinanet_": "retinanet", "fcos_": "fcos"}
"""What a builder's name begins with, and a detector whose coarse levels it makes."""
_BODIES = ("resnet", "timm")
_WIRINGS = ("paper", "afigan")
_NORMS = {"": "none", "BN": "bn", "SyncBN": "bn"}
_BODY_NORMS = {"FrozenBN": "frozen_bn", "BN": "bn", "SyncBN": "bn"}


def add_srfgan_config(cfg: CfgNode) -> None:
    """Add the keys of the SRF backbones to a detectron2 config, with their defaults.

    MODEL.SRF.UPSAMPLER: any of `srfgan.models.upsamplers.UPSAMPLERS`; `srf` is the paper's generator, `afi` that of
    the published checkpoints. MODEL.SRF.GENERATOR_WIDTH and GENERATOR_BLOCKS: channels inside `srf` and its residual
    blocks, 0 for the paper's. MODEL.SRF.BACKBONE: any of `srfgan.models.config.BackboneName`, for `build_timm_srf_*`;
    MODEL.RESNETS.NORM and STRIDE_IN_1X1 and MODEL.BACKBONE.FREEZE_AT apply to it too. MODEL.SRF.BIFPN_WIRING
    and BIFPN_REPEATS: `srfgan.models.config.BiFPNConfig`, of AFI-GAN's wiring and the paper's.
    """
    cfg.MODEL.SRF = CfgNode()
    cfg.MODEL.SRF.UPSAMPLER = "srf"
    cfg.MODEL.SRF.GENERATOR_WIDTH = 0
    cfg.MODEL.SRF.GENERATOR_BLOCKS = 0
    cfg.MODEL.SRF.BACKBONE = "s101"
    cfg.MODEL.SRF.BIFPN_WIRING = "paper"
    cfg.MODEL.SRF.BIFPN_REPEATS = 7


class SRFPyramid(Renamed, Backbone):  # type: ignore[misc]
    """A backbone of detectron2 made of a body and one of our necks: images to {"p2": ..., "p6": ...}.

    Args:
        bottom_up: (N, 3, H, W) to {"res2": ..., "res5": ...} at strides 4 to 32.
        neck: those maps to the pyramid.
        config: what the neck was built from.
        levels: the pyramid's names.
    """

    def __init__(
        self, bottom_up: nn.Module, neck: nn.Module, config: ModelConfig, levels: Sequence[str]
    ) -> None:
        wiring = config.neck.bifpn.wiring if config.neck.name == "bifpn" else None
        super().__init__(neck, lambda name: _theirs(f"neck.{name}", wiring).removeprefix("backbone."))
        self.bottom_up = bottom_up
        self._size_divisibility = config.size_divisibility
        self._shapes = {
            level: ShapeSpec(channels=config.neck.channels, stride=2 ** int(level.removeprefix("p")))
            for level in levels
        }

    @property
    def size_divisibility(self) -> int:
        """What sides of the batch must be multiples of, so that upsampled maps fit."""
        return self._size_divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Normalised images (N, 3, H, W) to feature maps (N, C, H/s, W/s) by level."""
        pyramid: dict[str, Tensor] = super().forward(self.bottom_up(x))
        return pyramid

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each level."""
        return dict(self._shapes)


def build_pyramid(cfg: CfgNode, input_shape: ShapeSpec, detector: str, body: str, neck: str) -> SRFPyramid:
    """The backbone of a detectron2 config.

    Args:
        cfg: with the keys of `add_srfgan_config`.
        input_shape: channels of the images, for detectron2's ResNet.
        detector: one of `srfgan.models.config.DETECTORS`, whose levels above p5 are made.
        body: `resnet` or `timm`.
        neck: one of `srfgan.models.config.NeckName`.

    Raises:
        InputError: MODEL.SRF is missing, or a value has no counterpart here.
    """
    if "SRF" not in cfg.MODEL:
        raise InputError(
            "MODEL.SRF is missing: call srfgan_cli.detectron2_plugin.add_srfgan_config(cfg) first."
        )
    if cfg.MODEL.FPN.FUSE_TYPE != "sum":
        raise InputError(
            f"MODEL.FPN.FUSE_TYPE: SRF backbones add levels ('sum'), got {cfg.MODEL.FPN.FUSE_TYPE!r}."
        )
    upsampler = _checked("MODEL.SRF.UPSAMPLER", cfg.MODEL.SRF.UPSAMPLER, tuple(UPSAMPLERS))
    norm = _NORMS[_checked("MODEL.FPN.NORM", cfg.MODEL.FPN.NORM, _NORMS)]
    features = list(cfg.MODEL.FPN.IN_FEATURES)
    bottom_up, widths = _resnet(cfg, input_shape) if body == "resnet" else _timm(cfg, features)
    bifpn = {
        "wiring": _checked("MODEL.SRF.BIFPN_WIRING", cfg.MODEL.SRF.BIFPN_WIRING, _WIRINGS),
        "repeats": cfg.MODEL.SRF.BIFPN_REPEATS,
    }
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    size = {"width": cfg.MODEL.SRF.GENERATOR_WIDTH or None, "blocks": cfg.MODEL.SRF.GENERATOR_BLOCKS or None}
    config = parse_model(
        {
            "detector": detector,
            "neck": {
                "name": neck,
                "channels": channels,
                "upsampler": upsampler,
                "generator": size if any(size.values()) else None,
                "norm": norm,
                "bifpn": bifpn,
            },
        }
    )
    made = build_neck(
        config.neck,
        {name: widths[name] for name in features},
        build_coarser_levels(config, widths[features[-1]]),
    )
    if cfg.MODEL.FPN.NORM == "SyncBN":
        made = nn.SyncBatchNorm.convert_sync_batchnorm(made)
    coarser = [level for level in config.levels if level in ("p6", "p7")]
    levels = [name.replace("res", "p") for name in features] + coarser
    return SRFPyramid(bottom_up, made, config, levels)


def _resnet(cfg: CfgNode, input_shape: ShapeSpec) -> tuple[nn.Module, dict[str, int]]:
    """detectron2's own ResNet and the width of each of its outputs."""
    resnet = build_resnet_backbone(cfg, input_shape)
    return resnet, {name: shape.channels for name, shape in resnet.output_shape().items()}


def _timm(cfg: CfgNode, features: Sequence[str]) -> tuple[nn.Module, dict[str, int]]:
    """One of our backbones under the published names, and the width of each of its outputs."""
    resnets = cfg.MODEL.RESNETS
    config = BackboneConfig.model_validate(
        {
            "name": _checked("MODEL.SRF.BACKBONE", cfg.MODEL.SRF.BACKBONE, get_args(BackboneName)),
            "norm": _BODY_NORMS[_checked("MODEL.RESNETS.NORM", resnets.NORM, _BODY_NORMS)],
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
            "stride_in_1x1": resnets.STRIDE_IN_1X1,
        }
    )
    backbone: nn.Module = build_backbone(config, features)
    widths = cast(dict[str, int], backbone.channels)
    if resnets.NORM == "SyncBN":
        backbone = nn.SyncBatchNorm.convert_sync_batchnorm(backbone)
    return Renamed(backbone, _body_name), widths


def _checked(key: str, value: Any, known: Any) -> Any:
    if value not in known:
        raise InputError(f"{key}: {value!r} is not one of {', '.join(map(repr, known))}.")
    return value


def _body_name(name: str) -> str:
    return _theirs(f"backbone.{name}").removeprefix("backbone.bottom_up.")


def _theirs(name: str, wiring: str | None = None) -> str:
    renamed = to_detectron2(name, wiring)
    assert renamed is not None, name
    return renamed


def _register(prefix: str, body: str, neck: str) -> None:
    def build(cfg: CfgNode, input_shape: ShapeSpec) -> SRFPyramid:
        return build_pyramid(cfg, input_shape, _TOPS[prefix], body, neck)

    build.__name__ = f"build_{prefix}{body}_srf_{neck}_backbone"
    cast(Callable[..., object], BACKBONE_REGISTRY.register)(build)


for _body in _BODIES:
    for _prefix in _TOPS:
        _register(_prefix, _body, "fpn")
        _register(_prefix, _body, "pafpn")
    _register("", _body, "bifpn")
