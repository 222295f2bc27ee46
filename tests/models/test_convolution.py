"""Convolutions whose weight's gradient is computed on contiguous maps: torch's own values, in the weight's layout."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from srfgan.models import build_detector
from srfgan.models.ops import convolution
from srfgan.models.ops.convolution import Conv2d, ConvTranspose2d
from srfgan_cli.presets import load_preset

LAYERS = {
    "3x3": lambda: Conv2d(5, 6, 3, padding=1),
    "no bias": lambda: Conv2d(5, 6, 3, padding=1, bias=False),
    "stride": lambda: Conv2d(5, 6, 3, stride=2, padding=1),
    "7x7": lambda: Conv2d(5, 6, 7, stride=2, padding=3),
    "transposed": lambda: ConvTranspose2d(5, 6, 6, stride=2, padding=2),
    "transposed, no bias": lambda: ConvTranspose2d(5, 6, 4, stride=2, padding=1, bias=False),
}


def gradients(layer, x):
    x = x.detach().requires_grad_()
    result = layer(x)
    result.square().sum().backward()
    return result, x.grad, *(p.grad for p in layer.parameters())


@pytest.fixture
def calls(monkeypatch):
    counted = []
    plain = convolution._gradients
    monkeypatch.setattr(convolution, "_gradients", lambda *a: counted.append(a[-1]) or plain(*a))
    return counted


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_torchs(name, calls, monkeypatch):
    torch.manual_seed(0)
    layer = LAYERS[name]().to(memory_format=torch.channels_last)
    x = torch.randn(2, 5, 48, 50).contiguous(memory_format=torch.channels_last)
    twin = copy.deepcopy(layer)
    found = gradients(layer, x)
    assert calls == [(True, False), (False, True)]
    monkeypatch.setattr(convolution, "_LARGE", 10**9)
    expected = gradients(twin, x)
    assert len(calls) == 2
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    assert layer.weight.grad.stride() == layer.weight.stride()


def test_a_strided_1x1_convolution_of_an_image_learns():
    """oneDNN's own gradient of such a weight, on channels last, writes beyond its memory: the process ends here."""
    torch.manual_seed(0)
    weight = torch.randn(48, 3, 1, 1, requires_grad=True)
    x = torch.randn(2, 3, 256, 256).contiguous(memory_format=torch.channels_last)
    (expected,) = torch.autograd.grad(
        F.conv2d(x.contiguous(), weight, None, stride=2).square().sum(), [weight]
    )
    for _ in range(5):
        result = convolution.convolved(x, weight, None, 2, 0)
        (found,) = torch.autograd.grad(result.square().sum(), [weight])
    assert result.shape == (2, 48, 128, 128)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, x: (layer, x[..., :20, :20]),
        lambda layer, x: (layer, x.contiguous()),
        lambda layer, x: (layer.requires_grad_(False), x),
        lambda layer, x: (layer.double(), x.double()),
    ],
    ids=["small", "contiguous", "frozen", "double"],
)
def test_elsewhere_it_is_torchs_own(change, calls):
    x = torch.randn(1, 5, 48, 50).contiguous(memory_format=torch.channels_last)
    layer, x = change(Conv2d(5, 6, 3, padding=1), x)
    layer(x.requires_grad_()).sum().backward()
    with torch.no_grad():
        layer(x)
    assert not calls


def test_a_detectors_large_maps_are_trained_so(calls):
    """Backbone, neck, generator and RPN; a new convolution that is torch's own would be slow again."""
    config = load_preset("mask_rcnn_r18_fpn", ["model.neck.channels=16", "model.box_head.fc_dim=16"]).model
    model = build_detector(config)
    own = [n for n, m in model.named_modules() if type(m) in (nn.Conv2d, nn.ConvTranspose2d)]
    large = [n for n in own if model.get_submodule(n).kernel_size[0] > 2]
    assert not large
    batch, _ = model.preprocess([torch.zeros(3, 192, 256, dtype=torch.uint8)])
    pyramid = model.pyramid(batch)
    logits, deltas = model.head.rpn(pyramid)
    (logits[0].sum() + deltas[0].sum()).backward()
    assert calls.count((False, True)) >= 5
