"""The BiFPNs: what the paper's computes, sizes that are no power of two, and that every detector trains on them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config

from srfgan.models import build_detector
from srfgan.models.config import (
    BackboneConfig,
    BiFPNConfig,
    BoxHeadConfig,
    FCOSHeadConfig,
    MaskHeadConfig,
    NeckConfig,
)
from srfgan.models.errors import InputError
from srfgan.models.factory import build_neck
from srfgan.models.instance_masks import Polygons
from srfgan.models.structures import Target
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan.models.weights.names import to_detectron2, to_ours

WIDTHS = {"res3": 16, "res4": 24, "res5": 32}
WIRINGS = ["paper", "afigan", "adelaidet"]


def features(height, width):
    """Maps of an image of 8 * height x 8 * width, sizes rounded up."""
    generator = torch.Generator().manual_seed(0)
    maps = {}
    for name, channels in WIDTHS.items():
        maps[name] = torch.randn(2, channels, height, width, generator=generator)
        height, width = -(-height // 2), -(-width // 2)
    return maps


def neck(wiring="paper", repeats=2, upsampler="nn"):
    torch.manual_seed(0)
    config = NeckConfig(
        name="bifpn", channels=8, upsampler=upsampler, bifpn=BiFPNConfig(wiring=wiring, repeats=repeats)
    )
    made = build_neck(config, WIDTHS)
    for name, parameter in made.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, -0.5 if name.endswith("weights") else 0.5, 1.5)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return made.eval()


def test_the_papers_neck_is_its_formula():
    """EfficientDet, section 3.3, written out from the state dict; sizes 11 x 13 down to 1 x 1."""
    made = neck()
    state = made.state_dict()

    def normed(x, name, groups=1):
        weight = state[f"{name}.weight"]
        y = F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=groups)
        if f"{name}.norm.weight" not in state:
            return y
        terms = [state[f"{name}.norm.{s}"] for s in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(y, *terms, eps=1e-3)

    def node(name, *maps):
        weights = state[f"{name}.weights"].clamp(min=0)
        x = sum(weight * x for weight, x in zip(weights, maps, strict=True)) / (weights.sum() + 1e-4)
        x = x * x.sigmoid()
        return normed(normed(x, f"{name}.conv.depthwise", groups=8), f"{name}.conv.pointwise")

    def down(x):
        return F.max_pool2d(x, 3, stride=2, padding=1)

    given = features(11, 13)
    maps = {level: normed(given[f"res{level}"], f"lateral.p{level}") for level in (3, 4, 5)}
    maps[6] = down(normed(given["res5"], "top.p6"))
    maps[7] = down(maps[6])
    for layer in ("layers.0", "layers.1"):
        merged = {7: maps[7]}
        for level in (6, 5, 4, 3):
            above = F.interpolate(merged[level + 1], maps[level].shape[-2:])
            merged[level] = node(f"{layer}.top_down.p{level}", maps[level], above)
        out = {3: merged[3]}
        for level in (4, 5, 6):
            out[level] = node(f"{layer}.bottom_up.p{level}", maps[level], merged[level], down(out[level - 1]))
        out[7] = node(f"{layer}.bottom_up.p7", maps[7], down(out[6]))
        maps = out
    with torch.no_grad():
        actual = made(given)
    assert [tuple(x.shape[-2:]) for x in actual.values()] == [(11, 13), (6, 7), (3, 4), (2, 2), (1, 1)]
    for level, x in maps.items():
        torch.testing.assert_close(actual[f"p{level}"], x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_any_upsampler_serves_all_layers_and_is_cut_to_odd_sizes(upsampler):
    made = neck(upsampler=upsampler)
    calls = []
    made.upsample.register_forward_hook(lambda module, given, output: calls.append(output.shape[-2:]))
    pyramid = made(features(11, 13))
    assert calls == [(2, 2), (4, 4), (6, 8), (12, 14)] * 2
    assert [tuple(x.shape) for x in pyramid.values()] == [
        (2, 8, *side) for side in [(11, 13), (6, 7), (3, 4), (2, 2), (1, 1)]
    ]


@pytest.mark.parametrize("wiring", WIRINGS)
def test_names_of_published_weights(wiring):
    names = [f"neck.{n}" for n in neck(wiring).state_dict() if not n.endswith("num_batches_tracked")]
    theirs = [to_detectron2(name, wiring) for name in names]
    assert len(set(theirs)) == len(names)
    assert [to_ours(name) for name in theirs] == names


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(
    ("detector", "wiring", "upsampler"),
    [
        ("mask_rcnn", "paper", "srf"),
        ("cascade_rcnn", "afigan", "afi"),
        ("retinanet", "paper", "carafe"),
        ("fcos", "adelaidet", "srf"),
    ],
)
def test_every_parameter_gets_a_gradient_with_and_without_boxes(detector, wiring, upsampler, count):
    config = model_config(
        detector=detector,
        num_classes=2,
        backbone=BackboneConfig(name="r10", norm="bn", freeze_at=0),
        neck=NeckConfig(
            name="bifpn", channels=64, upsampler=upsampler, bifpn=BiFPNConfig(wiring=wiring, repeats=2)
        ),
        box_head=BoxHeadConfig(fc_dim=16),
        mask_head=MaskHeadConfig(channels=8, num_convs=1),
        fcos=FCOSHeadConfig(num_convs=1),
    )
    torch.manual_seed(0)
    model = build_detector(config).train()
    images = [torch.rand(3, 65, 71) * 255, torch.rand(3, 90, 64) * 255]
    triangle = Polygons((np.array([[4.0, 6.0], [40.0, 6.0], [40.0, 50.0]]),))
    boxes, labels = torch.tensor([[4.0, 6.0, 40.0, 50.0]]), torch.tensor([1])
    target = Target(boxes[:count], labels[:count], [triangle][:count])
    with torch.autocast("cpu", torch.bfloat16, enabled=count == 0):
        losses = model(images, [target, target])
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    with torch.no_grad():
        assert list(model.pyramid(model.preprocess(images)[0])) == ["p3", "p4", "p5", "p6", "p7"]
    unit = 128 if wiring == "afigan" else 32
    assert [side % unit for side in model.preprocess(images)[0].shape[-2:]] == [0, 0]


def test_a_single_pixel_at_p7_is_too_little_to_train_on():
    made = neck().train()
    one = {name: x[:1] for name, x in features(16, 16).items()}
    with pytest.raises(InputError, match="single pixel at p7"):
        made(one)
    made(features(16, 16))
    made.eval()(one)
