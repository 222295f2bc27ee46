"""The generator and discriminator of the published weights against AFI-GAN's code."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity_cases import ParityCase

from srfgan.models import build_discriminator, build_generator
from srfgan.models.config import DiscriminatorConfig
from srfgan.models.weights import load_weights

KINDS = ("generator", "discriminator")


@pytest.fixture(scope="module")
def case(case_folder):
    return ParityCase(case_folder)


def stored_input(case) -> torch.Tensor:
    rng = np.random.RandomState(case.spec["input"]["seed"])
    x = torch.from_numpy(rng.standard_normal(case.spec["input"]["shape"]).astype(np.float32))
    case.assert_close("input", x[:, : case.golden["input"].shape[1]], 0.0)
    return x


def record_outputs(modules) -> list[torch.Tensor]:
    """Outputs of `modules` in order, as they are computed, after the LeakyReLU that follows in place."""
    outputs = []
    for module in modules:
        module.register_forward_hook(lambda *args: outputs.append(args[-1]))
    return outputs


def seed_of(case, key: str, default: int) -> int:
    """Of the stream that made an array, which the case says in words."""
    found = re.search(r"RandomState\((\d+)\)", str(case.spec.get("outputs", {}).get(key, "")))
    return int(found[1]) if found else default


def test_network(case, weight_file):
    (compare_generator if "loss_content" in case.golden else compare_discriminator)(case, weight_file)


def compare_generator(case, weight_file):
    channels = case.spec["input"]["shape"][1]
    generator = build_generator("afi", channels).eval()
    assert load_weights(generator, weight_file(case), strict=True).loaded == len(case.spec["parameters"])
    x = stored_input(case).requires_grad_()
    parts = [generator.head, generator.blocks, generator.trunk, generator.up, generator.tail]
    outputs = record_outputs(parts)
    with torch.no_grad():
        generator(x)
        # blocks gives the chain only; the group adds its input.
        outputs[1] = outputs[0] + 0.2 * outputs[1]
    for index, output in enumerate(outputs):
        case.assert_close(f"block{index}", output)
    output = generator(x)
    case.assert_close("output", output)
    rng = np.random.RandomState(seed_of(case, "l1_target", 4))
    wanted = torch.from_numpy(rng.standard_normal(output.shape).astype(np.float32))
    loss = F.l1_loss(output, wanted)
    case.assert_losses({"content": loss})
    loss.backward()
    case.assert_close("grad_input", x.grad, 1e-3)
    case.assert_gradients(dict(generator.named_parameters()), prefix="generator.")


def compare_discriminator(case, weight_file):
    weights = [shape for name, shape in case.spec["parameters"].items() if len(shape) == 4]
    *blocks, last = weights
    config = DiscriminatorConfig(widths=[shape[0] for shape in blocks], kernel=last[2])
    discriminator = build_discriminator(config, case.spec["input"]["shape"][1]).eval()
    load_weights(discriminator, weight_file(case), strict=True)
    x = stored_input(case).requires_grad_()
    outputs = record_outputs([*discriminator.blocks, discriminator.logits])
    logits = discriminator(x)
    for index, output in enumerate(outputs):
        case.assert_close(f"block{index}", output)
    real = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    fake = F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
    case.assert_losses({"real": real, "fake": fake})
    (real + 2 * fake).backward()
    case.assert_close("grad_input", x.grad, 1e-3)
    case.assert_gradients(dict(discriminator.named_parameters()), prefix="discriminator.")
    with torch.no_grad():
        case.assert_close("output_train_mode", discriminator.train()(x))
    for block in range(len(blocks)):
        for statistic in ("running_mean", "running_var"):
            key = f"after_train_Discriminators_0_{block}_0_norm_{statistic}"
            case.assert_close(key, getattr(discriminator.blocks[block][1], statistic))
