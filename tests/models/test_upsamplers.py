"""The upsamplers and the discriminator: values, sizes, initial state, and that G learns."""

from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models import build_discriminator, build_generator
from models.config import DiscriminatorConfig, UpsamplerName
from models.factory import build_upsampler

NAMES = get_args(UpsamplerName)
LEARNED = [name for name in NAMES if name not in ("nn", "bilinear", "bicubic")]


def cubic(distance, a=-0.75):
    """Keys' kernel, as images are resized with."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


KERNELS = {
    "nn": lambda d: ((d > -0.5) & (d <= 0.5)).astype(float),
    "bilinear": lambda d: np.maximum(0, 1 - np.abs(d)),
    "bicubic": cubic,
}


@pytest.mark.parametrize("name", KERNELS)
def test_interpolation_is_its_kernel(name):
    """Along each axis: output pixel i lies at (i + 0.5) / 2 - 0.5, and edge pixels repeat outwards."""
    image = np.random.default_rng(0).normal(size=(5, 7))

    def matrix(size):
        weights = np.zeros((2 * size, size))
        for row, source in enumerate((np.arange(2 * size) + 0.5) / 2 - 0.5):
            for tap in range(-3, size + 3):
                weights[row, np.clip(tap, 0, size - 1)] += KERNELS[name](np.array(source - tap))
        return weights

    expected = matrix(5) @ image @ matrix(7).T
    actual = build_upsampler(name, 1)(torch.from_numpy(image)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_doubles_any_size(name):
    upsample = build_upsampler(name, 8).eval()
    for size in [(1, 1), (3, 5), (4, 2)]:
        assert upsample(torch.randn(2, 8, *size)).shape == (2, 8, size[0] * 2, size[1] * 2)


@pytest.mark.parametrize("name", ["srf", "afi"])
def test_untrained_generator_is_nearly_bilinear(name):
    torch.manual_seed(0)
    x = torch.randn(2, 32, 12, 12)
    output = build_generator(name, 32)(x)
    plain = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    assert 0 < (output - plain).std() < 0.25 * plain.std()


@pytest.mark.parametrize("name", [name for name in LEARNED if name not in ("carafe", "dysample")])
def test_upsampler_learns(name):
    """A target that no interpolation gives: every second pixel negated."""
    torch.manual_seed(0)
    generator = build_upsampler(name, 64)
    x = torch.randn(4, 64, 8, 8)
    target = F.interpolate(x, scale_factor=2.0) * torch.tensor([1.0, -1.0]).repeat(8)
    optimizer = torch.optim.Adam(generator.parameters(), lr=0.002)
    losses = []
    for _ in range(40):
        loss = F.l1_loss(generator(x), target)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_parameter_counts():
    """The paper: G adds about 10 M; the published code: 7,834,624 and 15,352,321."""
    with torch.device("meta"):
        counts = {
            "srf": build_generator("srf"),
            "afi": build_generator("afi"),
            "published": build_discriminator(DiscriminatorConfig(kernel=3)),
            "small": build_discriminator(DiscriminatorConfig(widths=[4, 6]), in_channels=3),
        }
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in counts.items()}
    assert counts["srf"] == pytest.approx(9.5e6, rel=0.01)
    assert (counts["afi"], counts["published"]) == (7_834_624, 15_352_321)
    assert counts["small"] == (3 * 4 * 9 + 4 + 8) + (4 * 6 * 9 + 6 + 12) + (6 + 1)


@pytest.mark.parametrize("kernel", [1, 3])
def test_discriminator_keeps_the_size(kernel):
    discriminator = build_discriminator(DiscriminatorConfig(widths=[8, 8], kernel=kernel), in_channels=4)
    logits = discriminator(torch.randn(2, 4, 5, 7))
    assert logits.shape == (2, 1, 5, 7)
    assert (logits < 0).any() and (logits > 0).any(), "logits, not probabilities"


def test_unknown_generator():
    with pytest.raises(ValueError, match="no generator named 'esrgan': choose 'srf' or 'afi'"):
        build_generator("esrgan")
