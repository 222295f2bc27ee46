"""Convolutions whose gradients are computed in other ways than torch's: its values, in the weight's layout."""

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


def has_avx512(monkeypatch, value):
    monkeypatch.setattr(convolution, "_HAS_AVX512", value)


@pytest.fixture
def calls(monkeypatch):
    """What of the gradients of maps and weights was computed, call by call, on a CPU without AVX-512."""
    has_avx512(monkeypatch, False)
    counted = []
    plain = convolution._gradients
    monkeypatch.setattr(convolution, "_gradients", lambda *a: counted.append(a[4]) or plain(*a))
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


@pytest.mark.parametrize(
    ("layer", "pays"),
    [
        (Conv2d(64, 64, 3, padding=1), False),
        (Conv2d(3, 64, 7, stride=2, padding=3), False),
        (Conv2d(64, 64, 3, stride=2, padding=1), True),
        (ConvTranspose2d(64, 64, 6, stride=2, padding=2), True),
    ],
    ids=["of stride 1", "an image's", "strided", "transposed"],
)
def test_with_avx512_only_wide_strided_convolutions_do_so(layer, pays, calls, monkeypatch):
    has_avx512(monkeypatch, True)
    x = torch.randn(1, layer.in_channels, 48, 50).contiguous(memory_format=torch.channels_last)
    layer(x.requires_grad_()).sum().backward()
    assert bool(calls) == pays


DEPTHWISE = {"5x5": (5, 1), "5x5, stride 2": (5, 2), "3x3, stride 2": (3, 2)}


@pytest.mark.parametrize("form", DEPTHWISE.values(), ids=DEPTHWISE)
def test_a_depthwise_convolution_in_bfloat16_has_gradients_of_float32(form, calls):
    """The maps are bfloat16's own; gradients are nearer to those of exact numbers than bfloat16's own."""
    torch.manual_seed(0)
    size, stride = form
    options = {"stride": stride, "padding": size // 2, "groups": 8}
    tensors = torch.randn(2, 8, 21, 24), torch.randn(8, 1, size, size), torch.randn(8)
    x, weight, bias = (tensor.requires_grad_() for tensor in tensors)

    def gradients_of(result):
        return torch.autograd.grad(result.float().square().sum(), [x, weight, bias])

    with torch.autocast("cpu", torch.bfloat16):
        found = convolution.convolved(x, weight, bias, *options.values())
        plain = F.conv2d(x, weight, bias, **options)
    assert torch.equal(found, plain)
    assert found.dtype == torch.bfloat16
    exact = gradients_of(F.conv2d(x, weight, bias, **options))
    for one, other, true in zip(gradients_of(found), gradients_of(plain), exact, strict=True):
        assert (one - true).norm() <= min((other - true).norm() * 1.001, true.norm() * 0.01)
    assert calls == [(True, True)]


@pytest.mark.parametrize("learns", ["maps", "weight"])
def test_a_depthwise_convolution_in_bfloat16_computes_only_the_gradients_that_are_asked_for(learns, calls):
    x = torch.randn(1, 8, 21, 24, requires_grad=learns == "maps")
    weight = torch.randn(8, 1, 5, 5, requires_grad=learns == "weight")
    with torch.autocast("cpu", torch.bfloat16):
        convolution.convolved(x, weight, None, 1, 2, 8).float().sum().backward()
    assert calls == [(learns == "maps", learns == "weight")]
    assert (x.grad is None) == (learns == "weight")
    assert (weight.grad is None) == (learns == "maps")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_depthwise_convolution_of_another_precision_is_torchs_own(dtype, calls):
    x, weight = torch.randn(1, 8, 21, 24, requires_grad=True), torch.randn(8, 1, 5, 5)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        convolution.convolved(x, weight, None, 1, 2, 8).float().sum().backward()
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
