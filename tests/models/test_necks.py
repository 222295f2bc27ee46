"""The necks: what they compute, their names in other projects' files, and that all of them train."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config

from srfgan.models import build_detector
from srfgan.models.config import BackboneConfig, BoxHeadConfig, MaskHeadConfig, NeckConfig, PAFPNConfig
from srfgan.models.factory import build_neck
from srfgan.models.instance_masks import Polygons
from srfgan.models.structures import Target
from srfgan.models.weights.names import to_detectron2, to_ours

WIDTHS = {"res2": 8, "res3": 16, "res4": 24, "res5": 32}


def features(sides=((16, 24), (8, 12), (4, 6), (2, 3))):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(2, width, *side, generator=generator)
        for (name, width), side in zip(WIDTHS.items(), sides, strict=True)
    }


def neck(name, norm="none", upsampler="bilinear", wiring="afigan"):
    torch.manual_seed(0)
    config = NeckConfig(
        name=name, channels=8, upsampler=upsampler, norm=norm, pafpn=PAFPNConfig(wiring=wiring)
    )
    made = build_neck(config, WIDTHS)
    for parameter in made.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return made.eval()


@pytest.mark.parametrize("norm", ["none", "bn"])
@pytest.mark.parametrize(("name", "wiring"), [("fpn", "afigan"), ("pafpn", "afigan"), ("pafpn", "paper")])
def test_neck_is_its_formula(name, wiring, norm):
    """Written out from the state dict in detectron2's names, convolution by convolution."""
    made = neck(name, norm, wiring=wiring)
    state = {to_detectron2(f"neck.{ours}"): value for ours, value in made.state_dict().items()}

    def conv(x, theirs, stride=1):
        weight = state[f"backbone.{theirs}.weight"]
        bias = state.get(f"backbone.{theirs}.bias")
        y = F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)
        if norm == "bn":
            terms = (
                state[f"backbone.{theirs}.norm.{s}"]
                for s in ("running_mean", "running_var", "weight", "bias")
            )
            y = F.batch_norm(y, *terms, eps=1e-5)
        return y

    given = features()
    tops = {5: conv(given["res5"], "fpn_lateral5")}
    for level in (4, 3, 2):
        above = F.interpolate(tops[level + 1], scale_factor=2, mode="bilinear")
        tops[level] = conv(given[f"res{level}"], f"fpn_lateral{level}") + above
    if name == "fpn":
        expected = {f"p{level}": conv(tops[level], f"fpn_output{level}") for level in (2, 3, 4, 5)}
    elif wiring == "paper":
        expected = {f"p{level}": conv(tops[level], f"fpn_output{level}") for level in (2, 3, 4, 5)}
        for level in (3, 4, 5):
            down = conv(expected[f"p{level - 1}"], f"pafpn_downsample{level}", stride=2).relu()
            expected[f"p{level}"] = conv(expected[f"p{level}"] + down, f"pafpn_output{level}").relu()
    else:
        path = {2: tops[2]}
        for level in (3, 4, 5):
            path[level] = tops[level] + conv(path[level - 1], f"pafpn_downsample{level}", stride=2).relu()
        expected = {f"p{level}": conv(path[level], f"pafpn_output{level}") for level in (2, 3, 4, 5)}
    expected["p6"] = F.max_pool2d(expected["p5"], 1, 2)
    with torch.no_grad():
        actual = made(given)
    assert list(actual) == ["p2", "p3", "p4", "p5", "p6"]
    for level, x in expected.items():
        torch.testing.assert_close(actual[level], x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["none", "bn"])
@pytest.mark.parametrize(("name", "convolutions"), [("fpn", 8), ("pafpn", 11)])
def test_names_of_published_weights(name, convolutions, norm):
    """AFI-GAN's ResNeSt-101 files: a norm beside each convolution's weight, and no bias."""
    names = [n for n in neck(name, norm).state_dict() if not n.endswith("num_batches_tracked")]
    theirs = {to_detectron2(f"neck.{n}") for n in names}
    assert {to_ours(n) for n in theirs} == {f"neck.{n}" for n in names}
    parts = {"none": {"bias"}, "bn": {f"norm.{s}" for s in ("weight", "bias", "running_mean", "running_var")}}
    assert len(names) == convolutions * (1 + len(parts[norm]))
    output = "fpn_output2" if name == "fpn" else "pafpn_output2"
    for conv in ("fpn_lateral5", output, *(["pafpn_downsample3"] if name == "pafpn" else [])):
        assert {f"backbone.{conv}.{part}" for part in {"weight"} | parts[norm]} <= theirs


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(
    ("name", "norm", "upsampler"),
    [
        ("pafpn", "none", "afi"),
        ("pafpn", "bn", "nn"),
        ("fpn", "bn", "srf"),
        ("augfpn", "none", "srf"),
        ("augfpn", "bn", "nn"),
    ],
)
def test_every_parameter_gets_a_gradient_with_and_without_boxes(name, norm, upsampler, count):
    config = model_config(
        num_classes=2,
        backbone=BackboneConfig(name="r18", norm="bn", freeze_at=0),
        neck=NeckConfig(name=name, channels=16, norm=norm, upsampler=upsampler),
        box_head=BoxHeadConfig(fc_dim=16),
        mask_head=MaskHeadConfig(channels=8, num_convs=1),
    )
    torch.manual_seed(0)
    model = build_detector(config).train()
    images = [torch.rand(3, 65, 71) * 255, torch.rand(3, 90, 64) * 255]
    triangle = Polygons((np.array([[4.0, 6.0], [40.0, 6.0], [40.0, 50.0]]),))
    boxes, labels = torch.tensor([[4.0, 6.0, 40.0, 50.0]]), torch.tensor([1])
    target = Target(boxes[:count], labels[:count], [triangle][:count])
    sum(model(images, [target, target]).values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize(("norm", "parameters"), [("none", 53_948_080), ("bn", 53_950_896)])
def test_parameter_counts_of_the_references(norm, parameters):
    """Mask R-CNN R-50-PAFPN of AFI-GAN; with norms, 11 x 256 more."""
    with torch.device("meta"):
        neck_config = NeckConfig(name="pafpn", upsampler="afi", norm=norm)
        model = build_detector(model_config(neck=neck_config))
    assert sum(p.numel() for p in model.parameters()) == parameters
