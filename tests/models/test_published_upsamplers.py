"""Deconvolution, pixel shuffle, CARAFE and DySample against their papers' formulas, one pixel at a time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config

from srfgan.models import build_detector
from srfgan.models.config import NeckConfig
from srfgan.models.errors import InputError
from srfgan.models.factory import build_upsampler
from srfgan.models.upsamplers.carafe import Carafe
from srfgan.models.upsamplers.dysample import DySample

SIZE = (3, 4)


def seeded(name, channels, std):
    """An upsampler whose every weight counts, and an input for it; float64."""
    torch.manual_seed(0)
    upsample = build_upsampler(name, channels).double()
    for parameter in upsample.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return upsample, torch.randn(2, channels, *SIZE, dtype=torch.float64)


def naive_convolution(x, weight, bias):
    """(C, H, W) by (D, C, k, k), zeros outside, one output at a time."""
    radius = weight.shape[-1] // 2
    out = np.zeros((len(weight), *x.shape[1:]))
    for d, i, j in np.ndindex(out.shape):
        for a, b in np.ndindex(weight.shape[2:]):
            y, z = i + a - radius, j + b - radius
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                out[d, i, j] += weight[d, :, a, b] @ x[:, y, z]
        out[d, i, j] += bias[d]
    return out


def naive_deconv(x, state):
    """Every old pixel paints its 4x4 kernel at stride 2; a border of one is cut off."""
    weight, (height, width) = state["up.weight"], x.shape[1:]
    canvas = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2))
    for i, j in np.ndindex(height, width):
        canvas[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.tensordot(x[:, i, j], weight, 1)
    return canvas[:, 1:-1, 1:-1] + state["up.bias"][:, None, None]


def naive_pixelshuffle(x, state):
    y = naive_convolution(x, state["conv.weight"], state["conv.bias"])
    out = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2]))
    for c, i, j in np.ndindex(out.shape):
        out[c, i, j] = y[4 * c + 2 * (i % 2) + j % 2, i // 2, j // 2]
    return out


def naive_carafe(x, state):
    """Sections 3.2 and 3.3: kernels of 5x5 from the shuffled encoding, softmax, weighted sum."""
    compressed = naive_convolution(x, state["compress.weight"], state["compress.bias"])
    encoded = naive_convolution(compressed, state["encode.weight"], state["encode.bias"])
    out = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2]))
    for i, j in np.ndindex(out.shape[1:]):
        logits = [encoded[4 * k + 2 * (i % 2) + j % 2, i // 2, j // 2] for k in range(25)]
        kernel = (np.exp(logits) / np.exp(logits).sum()).reshape(5, 5)
        for n, m in np.ndindex(5, 5):
            y, z = i // 2 + n - 2, j // 2 + m - 2
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                out[:, i, j] += kernel[n, m] * x[:, y, z]
    return out


def naive_dysample(x, state):
    """The linear layer's 2 x 4 x 4 channels: group, then x or y, then new pixel; a quarter is the offset."""
    offsets = 0.25 * naive_convolution(x, state["offset.weight"], state["offset.bias"])
    height, width = x.shape[1:]
    out = np.zeros((len(x), 2 * height, 2 * width))
    for c, i, j in np.ndindex(out.shape):
        group, new = c * 4 // len(x), 2 * (i % 2) + j % 2
        dx, dy = (offsets[(2 * group + axis) * 4 + new, i // 2, j // 2] for axis in (0, 1))
        y = np.clip((i + 0.5) / 2 - 0.5 + dy, 0, height - 1)
        z = np.clip((j + 0.5) / 2 - 0.5 + dx, 0, width - 1)
        for row, column in np.ndindex(height, width):
            out[c, i, j] += max(0, 1 - abs(y - row)) * max(0, 1 - abs(z - column)) * x[c, row, column]
    return out


NAIVE = {
    "deconv": naive_deconv,
    "pixelshuffle": naive_pixelshuffle,
    "carafe": naive_carafe,
    "dysample": naive_dysample,
}


@pytest.mark.parametrize("name", NAIVE)
def test_is_its_formula(name):
    upsample, x = seeded(name, 8, std=0.7)
    state = {key: value.numpy() for key, value in upsample.state_dict().items()}
    expected = np.stack([NAIVE[name](image, state) for image in x.numpy()])
    for layout in (torch.contiguous_format, torch.channels_last):
        with torch.no_grad():
            actual = upsample(x.contiguous(memory_format=layout)).numpy()
        np.testing.assert_allclose(actual, expected, atol=1e-10)


def test_untrained_states():
    """What the papers start from: bilinear, four equal pixels, the mean of a neighbourhood, nearly bilinear."""
    torch.manual_seed(0)
    x = torch.randn(2, 16, 7, 9)
    bilinear = F.interpolate(x, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        made = {name: build_upsampler(name, 16)(x) for name in NAIVE}
    torch.testing.assert_close(made["deconv"][:, :, 1:-1, 1:-1], bilinear[:, :, 1:-1, 1:-1])
    blocks = made["pixelshuffle"].unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert torch.equal(blocks, blocks[..., :1].expand_as(blocks)) and blocks.std() > 0.5
    mean = F.interpolate(F.avg_pool2d(x, 5, 1, 2), scale_factor=2)
    assert 0 < (made["carafe"] - mean).abs().max() < 0.05
    assert 0 < (made["dysample"] - bilinear).abs().max() < 0.05


def test_sizes_of_the_papers():
    """64 compressed channels and 25 weights for 4 pixels; 2 axes of 4 groups for 4 pixels."""
    assert sum(p.numel() for p in Carafe(256).parameters()) == (256 * 64 + 64) + (64 * 9 * 100 + 100)
    assert sum(p.numel() for p in DySample(256).parameters()) == 256 * 32 + 32


def test_channels_that_cannot_be_grouped():
    with pytest.raises(InputError, match="channels must be a multiple of 4, got 10"):
        build_detector(model_config(neck=NeckConfig(upsampler="dysample", channels=10)))
