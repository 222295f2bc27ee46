"""What every upsampler of the table must do; the interpolations' values; G and the discriminator."""

import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config

from srfgan.models import build_detector, build_discriminator, build_generator
from srfgan.models.config import DiscriminatorConfig, NeckConfig
from srfgan.models.factory import build_upsampler
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan.models.upsamplers.generators import make_phases_equal
from srfgan.models.upsamplers.seam import doubled


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


def made(name, channels=8, dtype=torch.float32):
    """An upsampler and both maps, the finer one a row short."""
    torch.manual_seed(0)
    maps = torch.randn(2, channels, 3, 5, dtype=dtype), torch.randn(2, channels, 5, 10, dtype=dtype)
    return build_upsampler(name, channels).to(dtype).eval(), *maps


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_doubles_any_size_in_any_layout(name):
    upsample = made(name)[0]
    for height, width in [(1, 1), (3, 5), (4, 2)]:
        coarse, fine = torch.randn(2, 8, height, width), torch.randn(2, 8, 2 * height, 2 * width)
        new = doubled(upsample, coarse, fine)
        assert new.shape == fine.shape
        nhwc = (x.contiguous(memory_format=torch.channels_last) for x in (coarse, fine))
        torch.testing.assert_close(doubled(upsample, *nhwc), new)
        torch.testing.assert_close(doubled(upsample, coarse[1:], fine[1:]), new[1:])


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_gradients(name):
    """Against finite differences, for the maps and every weight; and every weight has one."""
    upsample, coarse, fine = made(name, channels=16, dtype=torch.float64)
    for parameter in upsample.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    doubled(upsample, coarse.requires_grad_(), fine).square().sum().backward()
    assert all(parameter.grad.any() for parameter in upsample.parameters())
    weights = dict(upsample.named_parameters())

    def output(coarse, fine, *values):
        return torch.func.functional_call(
            Doubled(upsample), {f"of.{k}": x for k, x in zip(weights, values, strict=True)}, (coarse, fine)
        )

    maps = (x[:1].detach().requires_grad_() for x in (coarse, fine))
    assert torch.autograd.gradcheck(output, (*maps, *weights.values()), fast_mode=True)


class Doubled(torch.nn.Module):
    """The seam as a module, whose weights can be replaced."""

    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, coarse, fine):
        return doubled(self.of, coarse, fine)


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_builds_on_the_meta_device_and_computes_in_half_precision(name):
    with torch.device("meta"):
        build_detector(model_config(neck=NeckConfig(upsampler=name)))
        maps = torch.empty(1, 8, 3, 5), torch.empty(1, 8, 5, 10)
        assert doubled(build_upsampler(name, 8), *maps).shape == (1, 8, 6, 10)
    upsample, coarse, fine = made(name)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = doubled(upsample, coarse.bfloat16(), fine.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), doubled(upsample, coarse, fine), rtol=0, atol=0.1)


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_says_what_it_is_in_one_line(name):
    """For README and whoever reads the class."""
    module, made_by = UPSAMPLERS[name].split(":")
    said = getattr(import_module(f"srfgan.models.upsamplers.{module}"), made_by).__doc__.split("\n")[0]
    assert said.endswith((".", ":")) and len(said) > 10


def test_the_table_is_read_without_torch():
    code = "import srfgan.models.config, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", ["srf", "afi"])
def test_untrained_generator_is_nearly_bilinear(name):
    torch.manual_seed(0)
    x = torch.randn(2, 32, 12, 12)
    output = build_generator(name, 32)(x)
    plain = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    assert 0 < (output - plain).std() < 0.25 * plain.std()


@pytest.mark.parametrize("name", ["srf", "afi"])
def test_equal_phases_draw_no_grid(name):
    torch.manual_seed(0)
    generator = build_generator(name, 8)
    x = torch.randn(1, 8, 5, 7)
    assert (grid := generator.up(x))[..., ::2, ::2].sub(grid[..., 1::2, 1::2]).abs().max() > 0.1
    make_phases_equal(generator)
    taps = generator.up.weight[..., ::2, ::2].transpose(0, 1).flip(-2, -1)
    plain = F.conv2d(x, taps, generator.up.bias, padding=1)
    torch.testing.assert_close(generator.up(x), F.interpolate(plain, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize("name", ["srf", "afi"])
def test_generator_learns(name):
    """A target that no interpolation gives: every second pixel negated."""
    torch.manual_seed(0)
    generator = build_generator(name, 64)
    x = torch.randn(4, 64, 8, 8)
    target = F.interpolate(x, scale_factor=2.0) * torch.tensor([1.0, -1.0]).repeat(8)
    optimizer = torch.optim.Adam(generator.parameters(), lr=0.002)
    losses = []
    for _ in range(40):
        loss = F.l1_loss(generator(x), target)
        optimizer.zero_grad()
        loss.backward()
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
