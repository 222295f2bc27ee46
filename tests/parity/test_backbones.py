"""Backbones, alone or with an FPN, against AFI-GAN (ResNeSt, Swin) and CenterMask2 (VoVNet), by their names."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config
from parity_cases import ParityCase
from parity_configs import backbone_of
from torch import nn

from srfgan.models.config import BackboneConfig, NeckConfig, PixelConfig
from srfgan.models.detector import Detector
from srfgan.models.factory import build_backbone, build_neck
from srfgan.models.necks.extra_levels import ConvLevels
from srfgan.models.weights import load_weights
from srfgan.models.weights.names import to_detectron2, to_ours

KINDS = ("backbone",)
FINE = ("res3", "res4", "res5")


def build(case, folder) -> Detector:
    """Backbone and perhaps FPN in a detector without head, with those of the case's weights that are theirs."""
    config = BackboneConfig(**backbone_of(case.spec))
    spec, with_neck = case.spec, "neck_p3" in case.golden
    backbone = build_backbone(config, FINE) if config.name.startswith("swin") else build_backbone(config)
    neck = nn.Module()
    if with_neck:
        widths = {name: backbone.channels[name] for name in FINE}
        neck = build_neck(NeckConfig(upsampler="nn"), widths, ConvLevels("p5", 256, 256))
    pixel = PixelConfig(order=spec["input_format"], mean=spec["pixel_mean"], std=spec["pixel_std"])
    model = Detector(
        model_config(backbone=config, pixel=pixel), backbone=backbone, neck=neck, head=nn.Module()
    )
    wanted = "backbone." if with_neck else "backbone.bottom_up."
    weights = {name: value for name, value in case.weights().items() if name.startswith(wanted)}
    # Files hold these constants; no model needs them.
    others = spec["not_filled"] if isinstance(spec.get("not_filled"), dict) else {}
    constants = {name: np.zeros(shape, np.int64) for name, shape in others.items() if name.startswith(wanted)}
    path = folder / "model_final.pth"
    torch.save({"model": {k: torch.from_numpy(v) for k, v in (weights | constants).items()}}, path)
    report = load_weights(model, path, strict=True)
    path.unlink()
    assert report.loaded == len(weights)
    assert [name for name in weights if to_detectron2(to_ours(name)) != name] == []
    return model.eval()


def batch(case, model: Detector) -> torch.Tensor:
    """The case's images as the model reads them, padded as far as the case has them."""
    pixels, _ = model.preprocess(case.rgb_images())
    height, width = case.spec.get("padded_input_size", pixels.shape[-2:])
    return F.pad(pixels, (0, width - pixels.shape[-1], 0, height - pixels.shape[-2]))


@pytest.fixture(scope="module")
def case(case_folder):
    return ParityCase(case_folder)


def test_features_and_gradients(case, tmp_path):
    """A case with a neck stores its outputs, and gradients of their mean squares."""
    model = build(case, tmp_path)
    if model.config.backbone.freeze_at == 2:
        frozen = {name.split(".")[1] for name, p in model.backbone.named_parameters() if not p.requires_grad}
        assert frozen == {"conv1", "layer1"}
    with_neck = "neck_p3" in case.golden
    with torch.set_grad_enabled(with_neck):
        features = model.backbone(batch(case, model))
    compared = 0
    for level, feature in features.items():
        stage = level.replace("res", "stage")
        for key in (f"backbone_{level}", f"backbone_{stage}", f"bottom_up_{stage}"):
            if key in case.golden:
                case.assert_close(key, feature)
                compared += 1
    if not with_neck:
        assert compared == len(features)
        return
    pyramid = model.neck(features)
    assert list(pyramid) == ["p3", "p4", "p5", "p6", "p7"]
    for level, feature in pyramid.items():
        case.assert_close(f"neck_{level}", feature)
    loss = sum(feature.square().mean() for feature in pyramid.values())
    case.check("losses", "sum", abs(loss.item() / case.spec["training_check"]["loss_sum"] - 1))
    loss.backward()
    parameters = dict(model.named_parameters())
    case.assert_gradients(parameters)
    assert all(p.grad is not None for p in parameters.values())


def test_parameters(case):
    """Of VoVNetV2-99's published weights, counted by their authors."""
    config = BackboneConfig(**backbone_of(case.spec))
    if config.name != "v99":
        pytest.skip("only of VoVNet")
    with torch.device("meta"):
        backbone = build_backbone(config)
    assert sum(p.numel() for p in backbone.parameters()) == 69_469_376
