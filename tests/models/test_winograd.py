"""Winograd's algorithm: the numbers of the direct convolution, where it is taken and where not."""

import copy

import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config
from torch import nn

from srfgan.models import build_detector, build_generator
from srfgan.models.config import GeneratorConfig, InferenceConfig, NeckConfig
from srfgan.models.ops import winograd
from srfgan.models.ops.convolution import Conv2d, ConvTranspose2d, use_winograd


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 8), (70, 131)])
def test_it_is_the_convolution(size):
    """Of a map smaller than a tile, of one that ends with tiles, and of one of several strips; in any layout."""
    torch.manual_seed(0)
    maps = torch.randn(2, 3, *size)
    layers = (Conv2d(3, 5, 3, padding=1), 1), (ConvTranspose2d(3, 5, 6, stride=2, padding=2), 2)
    with torch.no_grad():
        for layer, step in layers:
            kernel = winograd.as_3x3(layer.weight) if step == 2 else layer.weight
            expected = layer(maps)
            for x in (maps, maps.contiguous(memory_format=torch.channels_last)):
                found = winograd.convolved(x, winograd.transformed(kernel, step), layer.bias)
                assert found.is_contiguous(memory_format=torch.channels_last)
                assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
            plain = winograd.convolved(maps, winograd.transformed(kernel, step), None)
            torch.testing.assert_close(plain + layer.bias.view(1, -1, 1, 1), found)


@pytest.mark.parametrize(
    "layer", [Conv2d(256, 256, 3, padding=1), ConvTranspose2d(64, 64, 6, stride=2, padding=2)]
)
def test_no_boxes_are_no_work(layer):
    """An image without any box had stopped detectors of large masks."""
    use_winograd(layer.eval(), True)
    with torch.no_grad():
        found = layer(torch.zeros(0, layer.in_channels, 28, 28))
    assert found.shape == (0, layer.out_channels, *(28 * layer.stride[0],) * 2)


def test_nothing_is_asked_of_an_exporters_maps():
    """How many boxes there are is known to no graph."""

    class OfKept(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = Conv2d(256, 256, 3, padding=1)
            use_winograd(self, True)

        def forward(self, x, keep):
            return self.conv(x[keep])

    given = torch.randn(2, 256, 24, 24), torch.tensor([True, False])
    with torch.no_grad():
        module = OfKept().eval()
        found = torch.export.export(module, given).module()(*given)
    torch.testing.assert_close(found, module(*given), atol=1e-4, rtol=1e-4)


def test_the_transposed_convolution_as_an_ordinary_one_is_exact():
    torch.manual_seed(0)
    weight, maps = torch.randn(2, 3, 6, 6, dtype=torch.float64), torch.randn(1, 2, 5, 4, dtype=torch.float64)
    four = F.conv2d(maps, winograd.as_3x3(weight), padding=1)  # (N, 4C', H, W), the pixel first
    shuffled = F.pixel_shuffle(four.unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2), 2)
    torch.testing.assert_close(shuffled, F.conv_transpose2d(maps, weight, stride=2, padding=2))


@pytest.fixture
def taken(monkeypatch):
    """How many layers went by it."""
    calls = []
    plain = winograd._products
    monkeypatch.setattr(winograd, "_products", lambda *given: calls.append(1) or plain(*given))
    return calls


def wide(channels=256):
    """A generator whose norms have seen maps, and maps of several strips."""
    generator = build_generator("srf", channels, GeneratorConfig(blocks=1)).eval()
    for norm in generator.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                values.data = torch.rand(channels) + 0.5
    use_winograd(generator, True)
    return generator, torch.randn(2, channels, 57, 58)


def test_a_generators_large_convolutions_go_by_it_in_inference_alone(taken):
    """And give nearly the same; small maps, narrow ones, training, half precision and exports are left to torch."""
    torch.manual_seed(0)
    generator, maps = wide()
    with torch.no_grad():
        fast = generator(maps)
        assert len(taken) == 5, "head, the block's two, trunk and the doubling one"
        use_winograd(generator, False)
        direct = generator(maps)
        generator.trunk_norm.running_mean += 1
        generator.tail.bias += 1
        changed = generator(maps)
        use_winograd(generator, True)
        assert (generator(maps) - changed).abs().max() < 1e-5 * changed.abs().max()
        assert len(taken) == 10
    assert 0 < (fast - direct).abs().max() < 1e-5 * direct.abs().max()
    layer, narrow = generator.head, wide(120)[0].up
    layer(maps)  # with gradients
    torch.export.export(layer, (maps,))
    with torch.no_grad():
        layer(maps[:1, :, :20, :20])
        narrow(maps[:, :120])
        copy.deepcopy(layer).double()(maps.double())
        with torch.autocast("cpu", torch.bfloat16):
            layer(maps)
        layer.train()(maps)
    assert len(taken) == 10


def test_new_weights_are_noticed(taken):
    layer = Conv2d(256, 256, 3, padding=1).eval()
    use_winograd(layer, True)
    maps = torch.randn(1, 256, 23, 24)
    with torch.inference_mode():
        first = layer(maps)
    with torch.no_grad():
        layer.weight.mul_(2)
        layer.bias.mul_(2)
    twin = copy.deepcopy(layer)
    with torch.inference_mode():
        assert torch.equal(layer(maps), 2 * first)
        torch.testing.assert_close(twin(maps), 2 * first)
    assert len(taken) == 3


@pytest.mark.parametrize("wanted", [True, False])
def test_a_key_of_the_detector_decides(wanted):
    config = model_config(neck=NeckConfig(upsampler="srf"), inference=InferenceConfig(winograd=wanted))
    detector = build_detector(config)
    layers = [m for m in detector.modules() if isinstance(m, Conv2d | ConvTranspose2d)]
    assert {layer.winograd for layer in layers} == {wanted}
    assert not hasattr(nn.Conv2d, "winograd")


def test_necks_and_heads_go_by_it_too(taken):
    """Where their maps are large: not the mask head of small regions."""
    torch.manual_seed(0)
    detector = build_detector(model_config(neck=NeckConfig(channels=256, upsampler="nn"))).eval()
    images, maps = [torch.rand(3, 200, 300) * 255], {}
    with torch.inference_mode():
        detector(images)
        assert len(taken) == 4, "the neck's and the RPN's, at P2 and P3"
        for wanted in (True, False):
            use_winograd(detector, wanted)
            pyramid = detector.pyramid(detector.preprocess(images)[0])
            maps[wanted] = [*pyramid.values(), detector.head.rpn.conv(pyramid["p2"])]
    assert len(taken) == 7
    for fast, direct in zip(maps[True], maps[False], strict=True):
        assert (fast - direct).abs().max() < 1e-5 * direct.abs().max()
