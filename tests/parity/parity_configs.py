"""The detector that a parity case describes, read from its `spec.json` alone.

What a reference is made of shows in the names and shapes of its parameters; its settings are in `hyperparameters`, in
words, where the case has them, and else they are the reference's defaults.
"""

from __future__ import annotations

import re
from typing import Any

from srfgan.models.config import ModelConfig, own_sections, parse_model

Shapes = dict[str, list[int]]


def kind_of_case(spec: dict[str, Any], arrays: set[str]) -> str:
    """Which of the test modules a case is for."""
    if "upsampler" in spec:
        return "upsampler"
    names = spec["parameters"]
    if any(name.startswith("Generators.") for name in names):
        return "generator"
    if any(name.startswith("Discriminators.") for name in names):
        return "discriminator"
    if "results" in spec:
        return "regularizers"
    if any("high_lateral_conv" in name for name in names):
        return "augfpn"
    if spec["source"]["repository"] == "open-mmlab/mmdetection":
        return "atss" if "bbox_head.atss_cls.weight" in names else "libra_rcnn"
    if not any("det_boxes" in name for name in arrays):
        return "backbone"
    return {"fcos": "one_stage", "retinanet": "one_stage"}.get(found := detector_name(names), found)


def detector_name(names: Shapes) -> str:
    """`two_stage` stands for Faster, Mask and Cascade R-CNN."""
    masks = any(name.startswith("roi_heads.mask_head.") for name in names)
    if any(name.startswith("Conv_Body.panet_buttomup") for name in names):
        return "panet"
    if "roi_heads.res5.0.conv1.weight" in names:
        return "tridentnet"
    if "init_proposal_boxes.weight" in names:
        return "sparse_rcnn"
    if any(name.startswith("proposal_generator.fcos_head.") for name in names):
        return "centermask" if masks else "fcos"
    return "two_stage" if "proposal_generator.rpn_head.conv.weight" in names else "retinanet"


def config_of(spec: dict[str, Any]) -> ModelConfig:
    """The config of our detector with a case's parameters and settings."""
    names, facts = spec["parameters"], spec.get("hyperparameters", {})
    detector = detector_name(names)
    if detector == "two_stage":
        cascade = "roi_heads.box_predictor.0.cls_score.weight" in names
        masks = any(name.startswith("roi_heads.mask_head.") for name in names)
        detector = (
            f"{'cascade_' if cascade else ''}{'mask_rcnn' if masks else 'rcnn' if cascade else 'faster_rcnn'}"
        )
        detector = detector.replace("cascade_faster_rcnn", "cascade_rcnn")
    anchors = _anchors(detector, facts)
    config = {
        "detector": detector,
        "num_classes": _classes(detector, names, len(anchors["ratios"])),
        "pixel": _pixel(spec),
        "backbone": backbone_of(spec),
        "neck": _neck(detector, names),
        "anchors": anchors,
        "rpn": _rpn(detector, facts),
        "box_head": _box_head(names),
        "mask_head": _mask_head(names),
        "inference": _inference(detector, spec, facts),
    }
    return parse_model(own_sections(config, detector))


def panet_config(spec: dict[str, Any]) -> ModelConfig:
    """PANet as its authors have it, with BatchNorm."""
    facts = spec["hyperparameters"]
    config = {
        "detector": "panet",
        "pixel": _pixel(spec),
        "backbone": backbone_of(spec),
        "neck": {"name": "pafpn", "pafpn": {"wiring": "paper"}, "norm": "bn", "upsampler": "nn"},
        "rpn": _rpn("panet", facts),
        "box_head": {
            "num_convs": 4,
            "num_fcs": 1,
            "norm": "bn",
            "samples_per_image": facts["box_head.samples_per_image"],
        },
        "mask_head": {"norm": "bn"},
        "inference": _inference("panet", spec, facts),
    }
    return parse_model(config)


def tridentnet_config(
    spec: dict[str, Any], test_branch: int | None, threshold: float | None = None
) -> ModelConfig:
    """detectron2's TridentNet, which knows no ranges."""
    facts = spec["hyperparameters"]
    before, after = facts["rpn.pre_nms_topk"], facts["rpn.post_nms_topk"]
    config = {
        "detector": "tridentnet",
        "pixel": _pixel(spec),
        "backbone": backbone_of(spec),
        "trident": {"scale_aware": False, "test_branch": test_branch},
        "rpn": {
            "pre_nms_topk_train": before["train"],
            "pre_nms_topk_test": before["test"],
            "post_nms_topk_train": after["train"],
            "post_nms_topk_test": after["test"],
        },
        "c5_head": {"samples_per_image": facts["box_head.samples_per_image"]},
        "inference": {"score_threshold": threshold or spec["score_threshold_test"]},
    }
    return parse_model(config)


def backbone_of(spec: dict[str, Any]) -> dict[str, Any]:
    """As `BackboneConfig` has it."""
    names, facts = spec["parameters"], spec.get("hyperparameters", {})
    inside = [name for name in names if re.match(r"backbone\.(bottom_up|res\d)\.", name)]
    if any("patch_embed" in name for name in inside):
        width = next(shape for name, shape in names.items() if name.endswith("patch_embed.proj.weight"))[0]
        return {"name": {96: "swin_t", 192: "swin_l"}[width], "freeze_at": 0, "stride_in_1x1": False}
    if any("OSA" in name for name in inside):
        # Of its fourth stage's modules, VoVNet-39 has two and VoVNet-99 nine.
        return {"name": "v99" if any("OSA4_9" in name for name in inside) else "v39", "freeze_at": 0}
    freeze_at = facts.get("backbone.freeze_at", 2)
    if any(".conv2.fc1." in name for name in inside):
        return {"name": "s101", "norm": "bn", "freeze_at": freeze_at, "stride_in_1x1": False}
    blocks = 1 + max(int(found[1]) for name in inside if (found := re.search(r"\.res4\.(\d+)\.", name)))
    rgb = spec["input_format"] == "RGB"
    return {
        "name": {6: "r50", 23: "r101"}[blocks],
        "freeze_at": freeze_at,
        "stride_in_1x1": facts.get("backbone.stride_in_1x1", not rgb),
    }


def _classes(detector: str, names: Shapes, ratios: int) -> int:
    """Classes of the last layer's outputs."""
    if detector == "sparse_rcnn":
        return names["head.head_series.0.class_logits.weight"][0]
    if detector in ("fcos", "centermask"):
        return names["proposal_generator.fcos_head.cls_logits.weight"][0]
    if detector == "retinanet":
        return names["head.cls_score.weight"][0] // (3 * ratios)
    layer = next(
        name for name in names if re.fullmatch(r"roi_heads\.box_predictor\.(0\.)?cls_score\.weight", name)
    )
    return names[layer][0] - 1


def _pixel(spec: dict[str, Any]) -> dict[str, Any]:
    order = spec["input_format"]
    return {
        "order": order,
        "mean": [float(x) for x in spec["pixel_mean"]],
        "std": [float(x) for x in spec["pixel_std"]],
    }


def _neck(detector: str, names: Shapes) -> dict[str, Any]:
    neck: dict[str, Any] = {"upsampler": "afi" if any("srf_module." in name for name in names) else "nn"}
    adelaidet = [int(found[1]) for name in names if (found := re.search(r"repeated_bifpn\.(\d+)\.", name))]
    afigan = [int(found[1]) for name in names if (found := re.search(r"BiFPNLayer_(\d+)_", name))]
    if adelaidet or afigan:
        wiring = "adelaidet" if adelaidet else "afigan"
        neck |= {"name": "bifpn", "bifpn": {"wiring": wiring, "repeats": 1 + max(adelaidet or afigan)}}
    elif any("pafpn_" in name for name in names):
        neck |= {"name": "pafpn"}
    reads = {
        "fcos": "proposal_generator.fcos_head.cls_tower.0.weight",
        "centermask": "proposal_generator.fcos_head.cls_tower.0.weight",
        "retinanet": "head.cls_subnet.0.weight",
        "sparse_rcnn": "init_proposal_features.weight",
    }
    channels = names[reads.get(detector, "proposal_generator.rpn_head.conv.weight")][1]
    norm = "bn" if "backbone.fpn_lateral5.norm.weight" in names else "none"
    return neck | {"channels": channels, "norm": norm}


def _anchors(detector: str, facts: dict[str, Any]) -> dict[str, Any]:
    sizes = facts.get("anchors.sizes", [[32], [64], [128], [256], [512]])
    # RetinaNet's other two sizes of a level follow from the first.
    return {
        "sizes": [float(level[0]) for level in sizes],
        "ratios": [float(ratio) for ratio in facts.get("anchors.aspect_ratios_h_over_w", [0.5, 1, 2])],
    }


def _rpn(detector: str, facts: dict[str, Any]) -> dict[str, Any]:
    before = facts.get("rpn.pre_nms_topk_per_level", {"train": 2000, "test": 1000})
    kept = 2000 if detector.startswith("cascade") else 1000
    after = facts.get("rpn.post_nms_topk_all_levels", {"train": kept, "test": 1000})
    return {
        "pre_nms_topk_train": before["train"],
        "pre_nms_topk_test": before["test"],
        "post_nms_topk_train": after["train"],
        "post_nms_topk_test": after["test"],
        "nms_iou": facts.get("rpn.nms_iou", 0.7),
    }


def _box_head(names: Shapes) -> dict[str, Any]:
    head = {
        name.split(".", 2)[2]: shape
        for name, shape in names.items()
        if name.startswith("roi_heads.box_head.")
    }
    if not head:
        return {}
    # A cascade's heads are alike.
    first = {name.removeprefix("0."): shape for name, shape in head.items() if not re.match(r"[1-9]\.", name)}
    convs = sum(bool(re.fullmatch(r"conv\d+\.weight", name)) for name in first)
    return {
        "num_convs": convs,
        "norm": "bn" if "conv1.norm.weight" in first else "none",
        "num_fcs": sum(bool(re.fullmatch(r"fc\d+\.weight", name)) for name in first),
        "fc_dim": first["fc1.weight"][0],
    }


def _mask_head(names: Shapes) -> dict[str, Any]:
    prefix = "roi_heads.mask_head.mask_fcn"
    convs = [name for name in names if re.fullmatch(rf"{re.escape(prefix)}\d+\.weight", name)]
    if not convs:
        return {}
    norm = "bn" if f"{prefix}1.norm.weight" in names else "none"
    return {"num_convs": len(convs), "channels": names[convs[0]][0], "norm": norm}


def _inference(detector: str, spec: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    if detector == "sparse_rcnn":
        return {"score_threshold": 0.0}
    threshold = spec.get("score_threshold_test", facts.get("detections.threshold_used_here", 0.05))
    fcos = detector in ("fcos", "centermask")
    kept = re.search(r"post_nms_topk (\d+)", str(facts.get("detections.other_settings_here", "")))
    return {
        "score_threshold": float(threshold),
        "nms_iou": facts.get("test.nms_iou", 0.6 if fcos else 0.5),
        "detections_per_image": int(kept[1]) if kept else facts.get("test.detections_per_image", 100),
    }
