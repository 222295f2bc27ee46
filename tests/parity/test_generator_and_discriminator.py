"""The generator and discriminator of the published weights against AFI-GAN's code."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models import build_discriminator, build_generator
from models.config import DiscriminatorConfig
from models.weights import load_weights
from models.weights.names import to_ours


def stored_input(case) -> torch.Tensor:
    rng = np.random.RandomState(case.spec["input"]["seed"])
    x = torch.from_numpy(rng.standard_normal(case.spec["input"]["shape"]).astype(np.float32))
    case.assert_close("input", x[:, :4], 0.0)
    return x


def record_outputs(modules) -> list[torch.Tensor]:
    """Outputs of `modules` in order, as they are computed, after the LeakyReLU that follows in place."""
    outputs = []
    for module in modules:
        module.register_forward_hook(lambda *args: outputs.append(args[-1]))
    return outputs


def assert_gradient_norms(case, module, prefix):
    parameters = dict(module.named_parameters())
    for name, value in case.spec["training_check"]["gradient_norms"].items():
        gradient = parameters[to_ours(name).removeprefix(prefix)].grad
        assert gradient.norm().item() == pytest.approx(value, rel=1e-3), name


def test_generator(load_case, weight_file):
    case = load_case("afi_generator")
    generator = build_generator("afi").eval()
    assert load_weights(generator, weight_file(case), strict=True).loaded == len(case.spec["parameters"])
    x = stored_input(case).requires_grad_()
    parts = [generator.head, generator.blocks, generator.trunk, generator.up, generator.tail]
    outputs = record_outputs(parts)
    with torch.no_grad():
        generator(x)
        # blocks gives the chain only; the group adds its input.
        outputs[1] = outputs[0] + 0.2 * outputs[1]
    for index, output in enumerate(outputs):
        case.assert_close(f"block{index}", output[:, ::16])
    output = generator(x)
    case.assert_close("output", output)
    rng = np.random.RandomState(4)
    wanted = torch.from_numpy(rng.standard_normal(output.shape).astype(np.float32))
    loss = F.l1_loss(output, wanted)
    assert loss.item() == pytest.approx(float(case.golden["loss_content"]), rel=1e-4)
    loss.backward()
    case.assert_close("grad_input", x.grad[:, ::32], 1e-3)
    assert_gradient_norms(case, generator, "generator.")


def test_discriminator(load_case, weight_file):
    case = load_case("afi_discriminator")
    discriminator = build_discriminator(DiscriminatorConfig(kernel=3)).eval()
    load_weights(discriminator, weight_file(case), strict=True)
    x = stored_input(case).requires_grad_()
    outputs = record_outputs([*discriminator.blocks, discriminator.logits])
    logits = discriminator(x)
    for index, output in enumerate(outputs):
        case.assert_close(f"block{index}", output[:, :: 16 if index < 3 else 1])
    real = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    fake = F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
    assert real.item() == pytest.approx(float(case.golden["loss_real"]), rel=1e-4)
    assert fake.item() == pytest.approx(float(case.golden["loss_fake"]), rel=1e-4)
    (real + 2 * fake).backward()
    case.assert_close("grad_input", x.grad[:, ::32], 1e-3)
    assert_gradient_norms(case, discriminator, "discriminator.")
    with torch.no_grad():
        case.assert_close("output_train_mode", discriminator.train()(x))
    for block in range(3):
        for statistic in ("running_mean", "running_var"):
            key = f"after_train_Discriminators_0_{block}_0_norm_{statistic}"
            case.assert_close(key, getattr(discriminator.blocks[block][1], statistic)[::16])
