"""Backbones against the networks of AFI-GAN (ResNeSt, Swin) and CenterMask2 (VoVNet), by the references' names."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.config import BackboneConfig, ModelConfig, NeckConfig, PixelConfig
from models.detector import Detector
from models.factory import build_backbone, build_neck
from models.necks.extra_levels import ConvLevels
from models.weights import load_weights
from models.weights.names import to_detectron2, to_ours

RESNEST = BackboneConfig(name="s101", norm="bn", freeze_at=2)
VOVNET = BackboneConfig(name="v99", freeze_at=0)
SWIN_LEVELS = ("res3", "res4", "res5")


def load(
    case, weights, backbone: nn.Module, config: BackboneConfig, folder, neck: nn.Module | None = None
) -> Detector:
    """Backbone and perhaps neck in a detector without head, with those of the case's weights that are theirs."""
    pixel = PixelConfig(
        order=case.spec["input_format"], mean=case.spec["pixel_mean"], std=case.spec["pixel_std"]
    )
    model = Detector(
        ModelConfig(backbone=config, pixel=pixel),
        backbone=backbone,
        neck=neck or nn.Module(),
        head=nn.Module(),
    )
    if neck is None:
        weights = {name: value for name, value in weights.items() if ".bottom_up." in name}
    # Files hold these constants; no model needs them.
    constants = {name: np.zeros(shape, np.int64) for name, shape in case.spec["not_filled"].items()}
    path = folder / "model_final.pth"
    torch.save({"model": {k: torch.from_numpy(v) for k, v in (weights | constants).items()}}, path)
    report = load_weights(model, path, strict=True)
    path.unlink()
    assert report.loaded == len(weights)
    assert [name for name in weights if to_detectron2(to_ours(name)) != name] == []
    return model.eval()


def batch(case, model: Detector) -> torch.Tensor:
    """The case's image as the model reads it, padded as far as the case has it."""
    pixels, _ = model.preprocess([case.rgb_image()])
    height, width = case.spec["padded_input_size"]
    return F.pad(pixels, (0, width - pixels.shape[-1], 0, height - pixels.shape[-2]))


def assert_features(case, model: Detector, count: int) -> None:
    with torch.no_grad():
        features = model.backbone(batch(case, model))
    assert len(features) == count
    for level, feature in features.items():
        case.assert_close(f"backbone_{level}", feature[:, ::64])


def test_resnest(load_case, tmp_path):
    case = load_case("backbone_s101")
    model = load(case, case.weights(), build_backbone(RESNEST), RESNEST, tmp_path)
    assert_features(case, model, 4)
    frozen = {name.split(".")[1] for name, p in model.backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}


@pytest.mark.parametrize("name", ["swin_t", pytest.param("swin_l", marks=pytest.mark.slow)])
def test_swin(load_case, tmp_path, name):
    """The map of 64 x 96 tokens is no multiple of either window, so that padding and shift meet."""
    case = load_case(f"backbone_{name}")
    config = BackboneConfig(name=name, freeze_at=0)
    model = load(case, case.weights(), build_backbone(config, SWIN_LEVELS), config, tmp_path)
    assert_features(case, model, 3)


def test_vovnet_with_its_neck(load_case, tmp_path):
    """This case stores the outputs of the FPN, and gradients of their mean squares."""
    case = load_case("backbone_v99")
    backbone = build_backbone(VOVNET)
    widths = {name: backbone.channels[name] for name in ("res3", "res4", "res5")}
    neck = build_neck(NeckConfig(upsampler="nn"), widths, ConvLevels("p5", 256, 256))
    model = load(case, case.weights(), backbone, VOVNET, tmp_path, neck)
    assert sum(p.numel() for p in model.backbone.parameters()) == 69_469_376
    pyramid = model.pyramid(batch(case, model))
    assert list(pyramid) == ["p3", "p4", "p5", "p6", "p7"]
    for level, feature in pyramid.items():
        case.assert_close(f"neck_{level}", feature[:, ::64])
    loss = sum(feature.square().mean() for feature in pyramid.values())
    expected = case.spec["training_check"]
    assert loss.item() == pytest.approx(expected["loss_sum"], rel=1e-4)
    loss.backward()
    parameters = dict(model.named_parameters())
    for name, value in expected["gradient_norms"].items():
        assert parameters[to_ours(name)].grad.norm().item() == pytest.approx(value, rel=1e-3), name
    assert all(p.grad is not None for p in parameters.values())
