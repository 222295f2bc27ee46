"""The adversarial losses: who gets a gradient, whose statistics move, and the equations' values."""

import copy
import math
import weakref

import pytest
import torch
from torch.nn import functional as F

from srfgan.models import build_discriminator, build_generator
from srfgan.models.config import DiscriminatorConfig
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets.config import AdversarialConfig
from srfgan_cli.training.adversarial import (
    TERMS,
    Adversary,
    content_loss,
    paired,
    random_windows,
)
from srfgan_cli.training.pretrain import GeneratorLosses


def adversary(discriminator, loss="logistic", r1=0):
    return Adversary(discriminator, AdversarialConfig(loss=loss, r1=r1), World(torch.device("cpu")))


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
    losses, _, _ = GeneratorLosses(generator, AdversarialConfig())(*maps, adversary(discriminator).judge)
    losses["loss_adversarial"].backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_gradient_is_that_of_the_discriminator_itself(networks, maps):
    generator, discriminator = networks
    low, _ = maps
    fake = generator(low["p2"])
    judgement = adversary(discriminator).judge([fake])
    (judged,) = torch.autograd.grad(3 * judgement.loss, fake, retain_graph=True)
    plain = 3 * F.binary_cross_entropy_with_logits(discriminator(fake), torch.ones(2, 1, 12, 16))
    (expected,) = torch.autograd.grad(plain, fake)
    torch.testing.assert_close(judged, expected)


def test_the_losses_are_the_papers_the_hinge_and_least_squares():
    """At logits of -2, 0 and 2: the generator's, and D's of fake and of real maps."""
    logits = torch.tensor([-2.0, 0.0, 2.0])
    found = {
        name: [term(logits).tolist() for term in (terms.deceiving, terms.fake, terms.real)]
        for name, terms in TERMS.items()
    }
    low, middle, high = math.log(1 + math.exp(-2)), math.log(2), math.log(1 + math.exp(2))
    expected = {
        "logistic": [[high, middle, low], [low, middle, high], [high, middle, low]],
        "hinge": [[2, 0, -2], [0, 1, 3], [3, 1, 0]],
        "least_squares": [[4.5, 0.5, 0.5], [2, 0, 2], [4.5, 0.5, 0.5]],
    }
    for name, values in expected.items():
        torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(values).float())


@pytest.mark.parametrize("loss", TERMS)
def test_by_each_loss_a_discriminator_learns_to_tell_maps_apart(loss):
    torch.manual_seed(0)
    discriminator = build_discriminator(DiscriminatorConfig(widths=[8]), 4)
    maps = torch.randn(2, 4, 8, 8).exp()  # skewed, which batch norms leave
    fake, real = [-maps], [maps]
    learning, learner = torch.optim.Adam(discriminator.parameters(), 0.05), adversary(discriminator, loss)
    apart = []
    for _ in range(125):
        logits = learner.judge(fake).logits
        with torch.no_grad():
            apart.append(float(discriminator(real[0]).mean() - logits[0].mean()))
        learning.zero_grad()
        for part in learner.losses(logits, real):
            sum(part.values()).backward()
        learning.step()
    assert apart[-1] > 0.1 > apart[0]


def test_r1_is_half_gamma_times_the_squared_slope_at_the_real_maps():
    """Of a linear D, whose slope is its weight everywhere; it pulls D's weights alone, and reaches no map."""
    discriminator = torch.nn.Conv2d(4, 1, 1)
    real = [torch.randn(2, 4, 6, 8, requires_grad=True), torch.randn(2, 4, 3, 4)]
    parts = list(adversary(discriminator, r1=3.0).losses([torch.zeros(1)], real))
    penalty = parts[1]["loss_d_r1"]
    weight = discriminator.weight
    torch.testing.assert_close(penalty, 3 / 2 * weight.square().sum() * len(real))
    penalty.backward()
    torch.testing.assert_close(weight.grad, 3 * weight * len(real))
    assert real[0].grad is None
    assert "loss_d_r1" not in list(adversary(discriminator).losses([torch.zeros(1)], real))[1]


@pytest.mark.parametrize("window", [None, 8])
def test_a_spectral_discriminator_is_divided_by_its_largest_singular_values(networks, maps, window):
    """Its power iteration goes on in the judge's passes as in any, and finds the values of changed weights."""
    generator, _ = networks
    discriminator = build_discriminator(DiscriminatorConfig(widths=[16, 8], normalization="spectral"), 16)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in discriminator.modules())
    convolutions = [layer for layer in discriminator.modules() if isinstance(layer, torch.nn.Conv2d)]
    for convolution in convolutions:
        convolution.parametrizations.weight.original.data.normal_()
    losses = GeneratorLosses(generator, AdversarialConfig(window=window))
    for _ in range(30):
        judged, logits, real = losses(*maps, adversary(discriminator).judge)
    judged["loss_adversarial"].backward()
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    for part in adversary(discriminator).losses(logits, real):
        sum(part.values()).backward()
    assert all(parameter.grad.any() for parameter in discriminator.parameters())
    discriminator.eval()
    for convolution in convolutions:
        largest = torch.linalg.matrix_norm(convolution.weight.flatten(1), ord=2)
        torch.testing.assert_close(largest, torch.ones(()), rtol=0.01, atol=0)


def test_the_generators_step_leaves_the_discriminators_weights_alone(networks, maps):
    generator, discriminator = networks
    losses, _, _ = GeneratorLosses(generator, AdversarialConfig(weight=1.0))(
        *maps, adversary(discriminator).judge
    )
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in discriminator.parameters())


def test_the_discriminators_step_takes_the_judges_pass_and_leaves_the_generator_alone(networks, maps):
    """One pass over each map serves both steps; D's gradients and statistics are those of passes of its own."""
    generator, discriminator = networks
    alone = copy.deepcopy(discriminator)
    calls = []
    discriminator.register_forward_hook(lambda *_: calls.append(1))
    losses, logits, real = GeneratorLosses(generator, AdversarialConfig())(
        *maps, adversary(discriminator).judge
    )
    sum(losses.values()).backward()
    before = {name: parameter.grad.clone() for name, parameter in generator.named_parameters()}
    for part in adversary(discriminator).losses(logits, real):
        sum(part.values()).backward()
    assert len(calls) == len(maps[1]) * 2
    for name, parameter in generator.named_parameters():
        assert torch.equal(parameter.grad, before[name]), name

    with torch.no_grad():
        fake = [generator(features) for features in maps[0].values()]
    sum(F.softplus(alone(f)).mean() for f in fake).backward()
    sum(F.softplus(-alone(r)).mean() for r in maps[1].values()).backward()
    for (name, parameter), expected in zip(discriminator.named_parameters(), alone.parameters(), strict=True):
        assert parameter.dim() == 1 or expected.grad.abs().sum() > 0, name
        torch.testing.assert_close(parameter.grad, expected.grad, msg=name)
    for name, value in discriminator.named_buffers():
        torch.testing.assert_close(value, alone.get_buffer(name), msg=name)


def test_activations_of_the_fake_maps_are_gone_when_the_real_ones_are_judged(networks, maps):
    """D's activations are most of a step's memory: 1.8 GiB an image of 800x1333 each."""

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor

    generator, discriminator = networks
    alive = weakref.WeakSet()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: alive.add(kept := Kept(tensor)) or kept, lambda kept: kept.tensor
    ):
        losses, logits, real = GeneratorLosses(generator, AdversarialConfig())(
            *maps, adversary(discriminator).judge
        )
        sum(losses.values()).backward()
        del losses
        parts = adversary(discriminator).losses(logits, real)
        fake = next(parts)
        assert alive
        sum(fake.values()).backward()
        assert not alive
        sum(next(parts).values()).backward()
    assert not alive and not list(parts)


def test_values_are_the_equations(networks, maps):
    _, discriminator = networks
    _, real = maps
    fake = [torch.zeros_like(r) for r in real.values()]
    expected = sum(float(r.abs().mean()) for r in real.values())
    assert math.isclose(float(content_loss(fake, list(real.values()))), expected, rel_tol=1e-6)
    discriminator.eval()
    logits = adversary(discriminator).judge(fake).logits
    parts = adversary(discriminator).losses(logits, list(real.values()))
    losses = {name: loss for part in parts for name, loss in part.items()}
    on_real = sum(-torch.log(torch.sigmoid(discriminator(r))).mean() for r in real.values())
    on_fake = sum(-torch.log(1 - torch.sigmoid(discriminator(f))).mean() for f in fake)
    torch.testing.assert_close(losses["loss_d_real"], on_real)
    torch.testing.assert_close(losses["loss_d_fake"], on_fake)


def test_maps_that_differ_by_a_pixel_are_cut_to_their_common_size():
    fake, real = paired(
        {"p2": torch.zeros(1, 4, 8, 10)}, {"p2": torch.ones(1, 4, 7, 11), "p3": torch.ones(1)}
    )
    assert [tuple(m.shape) for m in (*fake, *real)] == [(1, 4, 7, 10), (1, 4, 7, 10)]


def test_windows_are_the_same_of_fake_and_real_and_follow_the_random_stream():
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    places = torch.stack([rows, columns]).expand(3, 2, 40, 50)
    fake, real = (
        [places, places[..., :16, :], places[..., :9, :10]],
        [100 + places, places[..., :16, :], None],
    )
    real[2] = fake[2].clone()
    state = torch.get_rng_state()
    cut_fake, cut_real = random_windows(fake, real, 16)
    assert [tuple(m.shape) for m in cut_fake] == [(3, 2, 16, 16), (3, 2, 16, 16), (3, 2, 9, 10)]
    assert cut_fake[2] is fake[2] and cut_real[2] is real[2]
    assert torch.equal(cut_fake[0] + 100, cut_real[0]) and torch.equal(cut_fake[1], cut_real[1])
    corners = cut_fake[0][:, :, 0, 0]
    assert torch.equal(cut_fake[0], places[..., :16, :16] + corners[:, :, None, None])
    assert len({tuple(corner) for corner in corners.tolist()}) == 3, "one place for each image"
    torch.set_rng_state(state)
    again, _ = random_windows(fake, real, 16)
    assert all(torch.equal(a, b) for a, b in zip(again, cut_fake, strict=True))
    seen = torch.cat([random_windows(fake, real, 16)[0][0][:, :, 0, 0] for _ in range(200)])
    assert seen.amin(0).tolist() == [0, 0] and seen.amax(0).tolist() == [24, 34]


@pytest.mark.parametrize("side", [16, 8])
def test_with_windows_l1_stays_whole_and_a_large_window_changes_nothing(networks, maps, side):
    generator, discriminator = networks
    discriminator.eval(), generator.eval()
    judge = adversary(discriminator).judge
    whole, logits, target = GeneratorLosses(generator, AdversarialConfig())(*maps, judge)
    config = AdversarialConfig(window=side)
    losses, cut_logits, cut_real = GeneratorLosses(generator, config)(*maps, judge)
    assert torch.equal(losses["loss_content"], whole["loss_content"])
    if side == 16:
        assert torch.equal(losses["loss_adversarial"], whole["loss_adversarial"])
        assert all(
            torch.equal(a, b) for a, b in zip([*cut_logits, *cut_real], [*logits, *target], strict=True)
        )
        return
    assert [tuple(m.shape[-2:]) for m in cut_logits] == [(8, 8), (6, 8)]
    expected = sum(F.softplus(-x).mean() for x in cut_logits)
    torch.testing.assert_close(losses["loss_adversarial"], config.weight * expected)
    losses["loss_adversarial"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in generator.parameters())


def test_distillation_compares_with_a_trained_generators_maps(networks, maps):
    """Its term alone reaches all of G; without it the losses are the paper's."""
    generator, discriminator = networks
    low, real = maps
    taught = {level: torch.zeros_like(x) for level, x in real.items()}
    plain, _, _ = GeneratorLosses(generator, AdversarialConfig())(low, real, adversary(discriminator).judge)
    assert set(plain) == {"loss_content", "loss_adversarial"}
    losses, _, _ = GeneratorLosses(generator, AdversarialConfig(), 0.5)(
        low, real, adversary(discriminator).judge, taught
    )
    expected = 0.5 * sum(generator(x).abs().mean() for x in low.values())
    torch.testing.assert_close(losses["loss_distill"], expected)
    torch.testing.assert_close(losses["loss_content"], plain["loss_content"])
    losses["loss_distill"].backward()
    assert all(parameter.grad.any() for parameter in generator.parameters())
