"""What a preset is called in detectron2's own config keys."""

from __future__ import annotations

import json
from typing import Any

import yaml

from srfgan.models.config import (
    CascadeMaskRCNNConfig,
    CascadeRCNNConfig,
    MaskRCNNConfig,
    ModelConfig,
    RetinaNetConfig,
    TwoStageConfig,
)
from srfgan.models.errors import InputError
from srfgan.models.heads.retinanet_head import SCALES
from srfgan_cli import __version__
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.presets.config import Config

HEADER = "# A detectron2 config, written by srfgan"
"""How every such file begins."""

_META_ARCHITECTURES = {
    "faster_rcnn": "GeneralizedRCNN",
    "mask_rcnn": "GeneralizedRCNN",
    "cascade_rcnn": "GeneralizedRCNN",
    "cascade_mask_rcnn": "GeneralizedRCNN",
    "retinanet": "RetinaNet",
}
_RESNETS = {
    "r18": {"DEPTH": 18, "RES2_OUT_CHANNELS": 64},
    "r50": {"DEPTH": 50},
    "r101": {"DEPTH": 101},
    "x101_64x4d": {"DEPTH": 101, "NUM_GROUPS": 64, "WIDTH_PER_GROUP": 4},
}
"""Backbones that detectron2 has itself."""
_NORMS = {"none": "", "bn": "BN", "frozen_bn": "FrozenBN"}


def require_expressible(model: ModelConfig) -> None:
    """Check that detectron2 has this detector.

    Raises:
        InputError: it has not, or computes it differently.
    """
    if model.detector == "fcos":
        raise InputError(
            "--format detectron2 has no fcos: detectron2's own FCOS knows no scale per level and compares the "
            "threshold with another score, so these weights would find other boxes. Export it as onnx or pt2."
        )
    if model.detector not in _META_ARCHITECTURES:
        known = ", ".join(_META_ARCHITECTURES)
        raise InputError(
            f"--format detectron2 has no {model.detector}: detectron2 itself has {known}. Export it as onnx or pt2."
        )
    if model.backbone.timm_name is not None:
        raise InputError(
            f"--format detectron2 has no {model.backbone.name}: only this project's named backbones have names there. "
            "Export it as onnx or pt2."
        )
    if model.neck.name == "augfpn":
        raise InputError("--format detectron2 has no AugFPN; export it as onnx or pt2.")
    if bifpn_wiring(model) == "adelaidet":
        raise InputError(
            "--format detectron2 has no BiFPN of the wiring 'adelaidet'; export it as onnx or pt2."
        )
    if model.neck.name == "pafpn" and model.neck.pafpn.wiring == "paper":
        raise InputError("--format detectron2 has no PAFPN of the wiring 'paper'; export it as onnx or pt2.")


def bifpn_wiring(model: ModelConfig) -> str | None:
    """How the detector's BiFPN is wired; None without one."""
    return model.neck.bifpn.wiring if model.neck.name == "bifpn" else None


def needs_plugin(model: ModelConfig) -> bool:
    """Whether detectron2 builds the backbone only with `srfgan_cli.detectron2_plugin`."""
    return model.backbone.name not in _RESNETS or model.neck.name != "fpn" or model.neck.upsampler != "nn"


def detectron2_config(config: Config, model: ModelConfig, weights: str) -> dict[str, Any]:
    """The whole detector and its image sizes as nested values of detectron2's config.

    Args:
        config: the preset; says how images are resized.
        model: the detector, which a checkpoint may have otherwise than the preset.
        weights: MODEL.WEIGHTS.
    """
    backbone, neck = model.backbone, model.neck
    plugin = needs_plugin(model)
    ours_is_timm = backbone.name not in _RESNETS
    body = "timm" if ours_is_timm else "resnet"
    top = "retinanet_" if isinstance(model, RetinaNetConfig) and neck.name != "bifpn" else ""
    features = [level.replace("p", "res") for level in model.levels if level < "p6"]
    values: dict[str, Any] = {
        "META_ARCHITECTURE": _META_ARCHITECTURES[model.detector],
        "WEIGHTS": weights,
        "PIXEL_MEAN": model.pixel.mean,
        "PIXEL_STD": model.pixel.std,
        "MASK_ON": model.has_masks,
        "BACKBONE": {
            "NAME": f"build_{top}{body}_{'srf_' if plugin else ''}{neck.name}_backbone",
            "FREEZE_AT": backbone.freeze_at,
        },
        "RESNETS": {
            **_RESNETS.get(backbone.name, {}),
            "OUT_FEATURES": features,
            "NORM": _NORMS[backbone.norm],
            "STRIDE_IN_1X1": backbone.stride_in_1x1,
        },
        "FPN": {"IN_FEATURES": features, "OUT_CHANNELS": neck.channels, "NORM": _NORMS[neck.norm]},
    }
    if plugin:
        values["SRF"] = {"UPSAMPLER": neck.upsampler}
        if neck.generator is not None:
            sizes = neck.generator.sizes(neck.channels)
            values["SRF"] |= {f"GENERATOR_{key.upper()}": value for key, value in sizes.items()}
        if ours_is_timm:
            values["SRF"]["BACKBONE"] = backbone.name
        if neck.name == "bifpn":
            values["SRF"] |= {"BIFPN_WIRING": neck.bifpn.wiring, "BIFPN_REPEATS": neck.bifpn.repeats}
    if isinstance(model, RetinaNetConfig):
        values |= _retinanet(model)
    elif isinstance(model, TwoStageConfig):
        values |= _two_stage(model)
    return {
        "MODEL": values,
        "INPUT": {
            "FORMAT": model.pixel.order,
            "MIN_SIZE_TRAIN": config.data.short_sides,
            "MAX_SIZE_TRAIN": config.data.max_side,
            "MIN_SIZE_TEST": config.data.test_short_side,
            "MAX_SIZE_TEST": config.data.test_max_side,
            "RANDOM_FLIP": "horizontal" if config.data.flip else "none",
        },
        "TEST": {"DETECTIONS_PER_IMAGE": model.inference.detections_per_image},
        "VERSION": 2,
    }


def config_text(config: Config, model: ModelConfig, weights: str, categories: CategoryMap | None) -> str:
    """A detectron2 config file, with what it does not hold in comments: the plug-in and the classes."""
    lines = [f"{HEADER} {__version__} from the preset {config.name}.", "#", "#   cfg = get_cfg()"]
    if needs_plugin(model):
        lines += [
            "#   from srfgan_cli.detectron2_plugin import add_srfgan_config",
            "#   add_srfgan_config(cfg)",
        ]
    lines += [
        '#   cfg.merge_from_file("this file")',
        "#",
        "# MODEL.WEIGHTS is sought in the working folder. Images go in as INPUT.FORMAT says, resized by INPUT's",
        "# sizes for tests.",
    ]
    if categories is not None:
        names = json.dumps(categories.names, ensure_ascii=False)
        lines += [f"# MetadataCatalog.get(NAME).thing_classes = {names}"]
    values = detectron2_config(config, model, weights)
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)
    return "\n".join([*lines, text])


class _Dumper(yaml.SafeDumper):
    """Writes a list again where it occurs again, instead of a reference to it."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _two_stage(model: TwoStageConfig) -> dict[str, Any]:
    """MODEL's entries from the proposals on."""
    rpn, box = model.rpn, model.box_head
    cascade = model.cascade if isinstance(model, CascadeRCNNConfig | CascadeMaskRCNNConfig) else None
    values: dict[str, Any] = {
        "ANCHOR_GENERATOR": {
            "SIZES": [[size] for size in model.anchors.sizes],
            "ASPECT_RATIOS": [model.anchors.ratios],
        },
        "RPN": {
            "IN_FEATURES": list(model.levels),
            "PRE_NMS_TOPK_TRAIN": rpn.pre_nms_topk_train,
            "PRE_NMS_TOPK_TEST": rpn.pre_nms_topk_test,
            "POST_NMS_TOPK_TRAIN": rpn.post_nms_topk_train,
            "POST_NMS_TOPK_TEST": rpn.post_nms_topk_test,
            "NMS_THRESH": rpn.nms_iou,
            "BATCH_SIZE_PER_IMAGE": rpn.samples_per_image,
            "POSITIVE_FRACTION": rpn.positive_fraction,
        },
        "ROI_HEADS": {
            "NAME": "CascadeROIHeads" if cascade else "StandardROIHeads",
            "IN_FEATURES": list(model.pool_levels),
            "NUM_CLASSES": model.num_classes,
            "IOU_THRESHOLDS": cascade.ious[:1] if cascade else [0.5],
            "BATCH_SIZE_PER_IMAGE": box.samples_per_image,
            "POSITIVE_FRACTION": box.positive_fraction,
            "SCORE_THRESH_TEST": model.inference.score_threshold,
            "NMS_THRESH_TEST": model.inference.nms_iou,
        },
        "ROI_BOX_HEAD": {
            "NAME": "FastRCNNConvFCHead",
            "NUM_CONV": box.num_convs,
            "CONV_DIM": box.conv_channels,
            "NORM": _NORMS[box.norm],
            "NUM_FC": box.num_fcs,
            "FC_DIM": box.fc_dim,
            "POOLER_RESOLUTION": box.resolution,
            "CLS_AGNOSTIC_BBOX_REG": cascade is not None,
        },
    }
    if cascade is not None:
        values["ROI_BOX_CASCADE_HEAD"] = {"IOUS": cascade.ious, "BBOX_REG_WEIGHTS": cascade.weights}
    if isinstance(model, MaskRCNNConfig | CascadeMaskRCNNConfig):
        mask = model.mask_head
        values["ROI_MASK_HEAD"] = {
            "NAME": "MaskRCNNConvUpsampleHead",
            "NUM_CONV": mask.num_convs,
            "CONV_DIM": mask.channels,
            "NORM": _NORMS[mask.norm],
            "POOLER_RESOLUTION": mask.resolution,
        }
    return values


def _retinanet(model: RetinaNetConfig) -> dict[str, Any]:
    """MODEL's entries of RetinaNet."""
    return {
        "ANCHOR_GENERATOR": {
            "SIZES": [[size * scale for scale in SCALES] for size in model.anchors.sizes],
            "ASPECT_RATIOS": [model.anchors.ratios],
        },
        "RETINANET": {
            "IN_FEATURES": list(model.levels),
            "NUM_CLASSES": model.num_classes,
            "NUM_CONVS": model.retinanet.num_convs,
            "TOPK_CANDIDATES_TEST": model.retinanet.pre_nms_topk,
            "SCORE_THRESH_TEST": model.inference.score_threshold,
            "NMS_THRESH_TEST": model.inference.nms_iou,
            "SMOOTH_L1_LOSS_BETA": 0.0,
        },
    }
