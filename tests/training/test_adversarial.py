"""The adversarial losses: who gets a gradient, whose statistics move, and the equations' values."""

import math

import pytest
import torch
from torch.nn import functional as F

from models import build_discriminator, build_generator
from models.config import DiscriminatorConfig
from srfgan_cli.training.adversarial import (
    DiscriminatorLosses,
    as_judge,
    content_loss,
    generator_loss,
    paired,
)
from srfgan_cli.training.pretrain import GeneratorLosses


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return build_generator("srf", 16), build_discriminator(DiscriminatorConfig(widths=[16, 16]), 16)


@pytest.fixture
def maps():
    torch.manual_seed(1)
    low = {"p2": torch.randn(2, 16, 6, 8), "p3": torch.randn(2, 16, 3, 4)}
    real = {"p2": torch.randn(2, 16, 12, 16), "p3": torch.randn(2, 16, 6, 8)}
    return low, real


def test_the_generator_gets_its_adversarial_gradient(networks, maps):
    """The published code computes this term on a detached output, so its gradient is zero (METHOD.md, trap 1)."""
    generator, discriminator = networks
    losses, _, _ = GeneratorLosses(generator, weight=0.001)(*maps, as_judge(discriminator))
    losses["loss_adversarial"].backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_gradient_is_that_of_the_discriminator_itself(networks, maps):
    generator, discriminator = networks
    low, _ = maps
    fake = generator(low["p2"])
    (judged,) = torch.autograd.grad(generator_loss(as_judge(discriminator), [fake]), fake, retain_graph=True)
    plain = F.binary_cross_entropy_with_logits(discriminator(fake), torch.ones(2, 1, 12, 16))
    (expected,) = torch.autograd.grad(plain, fake)
    torch.testing.assert_close(judged, expected)


def test_the_generators_step_leaves_the_discriminator_alone(networks, maps):
    generator, discriminator = networks
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    losses, _, _ = GeneratorLosses(generator, weight=1.0)(*maps, as_judge(discriminator))
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    for name, value in discriminator.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)


def test_the_discriminators_step_leaves_the_generator_alone(networks, maps):
    generator, discriminator = networks
    low, real = maps
    fake = [generator(features) for features in low.values()]
    losses = DiscriminatorLosses(discriminator)(fake, list(real.values()))
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert all(
        parameter.grad.abs().sum() > 0 for parameter in discriminator.parameters() if parameter.dim() > 1
    )


def test_values_are_the_equations(networks, maps):
    _, discriminator = networks
    _, real = maps
    fake = [torch.zeros_like(r) for r in real.values()]
    expected = sum(float(r.abs().mean()) for r in real.values())
    assert math.isclose(float(content_loss(fake, list(real.values()))), expected, rel_tol=1e-6)
    discriminator.eval()
    losses = DiscriminatorLosses(discriminator)(fake, list(real.values()))
    on_real = sum(-torch.log(torch.sigmoid(discriminator(r))).mean() for r in real.values())
    on_fake = sum(-torch.log(1 - torch.sigmoid(discriminator(f))).mean() for f in fake)
    torch.testing.assert_close(losses["loss_d_real"], on_real)
    torch.testing.assert_close(losses["loss_d_fake"], on_fake)


def test_maps_that_differ_by_a_pixel_are_cut_to_their_common_size():
    fake, real = paired(
        {"p2": torch.zeros(1, 4, 8, 10)}, {"p2": torch.ones(1, 4, 7, 11), "p3": torch.ones(1)}
    )
    assert [tuple(m.shape) for m in (*fake, *real)] == [(1, 4, 7, 10), (1, 4, 7, 10)]
