"""Activation checkpointing changes what a step holds, and nothing of what it gives."""

import pytest
import torch
from torch import nn

from srfgan.models import build_detector, build_discriminator, build_generator
from srfgan.models.errors import InputError
from srfgan.models.structures import Target
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets import load_preset
from srfgan_cli.training.engine import Hooks, Trainer
from srfgan_cli.training.extract import ExtractStage
from srfgan_cli.training.finetune import FinetuneStage
from srfgan_cli.training.memory import of_stage
from srfgan_cli.training.pretrain import PretrainStage
from srfgan_cli.training.recomputation import recompute_activations

WORLD = World(torch.device("cpu"))
SMALL = [
    "model.backbone.name=r10",
    "model.neck.channels=16",
    "model.box_head.fc_dim=32",
    "model.num_classes=3",
    "discriminator.widths=[16, 24]",
    "pretrain.adversarial.levels=[p3, p4]",
    "extract.adversarial.levels=[p3, p4]",
    "initial_weights=none",
]


def config_of(upsampler, *changes):
    return load_preset("faster_rcnn_r18_fpn", [*SMALL, f"model.neck.upsampler={upsampler}", *changes])


def build(stage, config):
    torch.manual_seed(0)
    detector = build_detector(config.model)
    if stage == "finetune":
        return FinetuneStage(detector, config.finetune, WORLD)
    guide, judge = build_detector(config.model), build_discriminator(config.discriminator, 16)
    if stage == "extract":
        return ExtractStage(guide, detector, judge, config.extract, "bilinear", WORLD)
    generator = build_generator(config.model.neck.upsampler, 16)
    return PretrainStage(
        guide, generator, judge, config.pretrain.adversarial, "bilinear", config.pretrain.solver, WORLD
    )


def two_steps(stage, solver):
    """What two steps leave: losses and all weights and statistics."""
    torch.manual_seed(1)
    targets = [Target(torch.tensor([[8.0, 8, 60, 70]]), torch.tensor([1]))] * 2
    images = [torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8) for _ in targets]
    batch = Batch(images, targets, [1, 2], [(96, 128)] * 2)
    trainer = Trainer(stage, solver, WORLD, iter(lambda: batch, None), Hooks(save=lambda _: None))
    stage.train()
    for _ in range(2):
        trainer.step()
    losses = [row["losses"] for row in trainer.measured.pending]
    return losses, {name: module.state_dict() for name, module in stage.modules.items()}


@pytest.mark.parametrize("upsampler", ["srf", "afi"])
@pytest.mark.parametrize(
    ("stage", "changes"),
    [("pretrain", []), ("pretrain", ["pretrain.adversarial.r1=1"]), ("extract", []), ("finetune", [])],
)
def test_a_stage_gives_the_same_to_the_last_bit(stage, changes, upsampler):
    config = config_of(upsampler, *changes)
    solver = getattr(config, stage).solver
    expected = two_steps(build(stage, config), solver)
    recomputing = build(stage, config)
    recompute_activations(recomputing)
    torch.testing.assert_close(two_steps(recomputing, solver), expected, rtol=0, atol=0)
    norms = [
        layer
        for m in recomputing.modules.values()
        for layer in m.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    assert all(norm.momentum == 0.1 for norm in norms)


def test_synchronised_norms_are_computed_again_too():
    """As `sync_bn` puts them in on several GPUs; they take part alone here."""
    images, found = torch.randn(2, 16, 12, 12), []
    for recompute in (False, True):
        torch.manual_seed(0)
        generator = nn.SyncBatchNorm.convert_sync_batchnorm(build_generator("srf", 16))
        generator.recompute = recompute
        generator(images).square().mean().backward()
        gradients = {name: p.grad for name, p in generator.named_parameters()}
        found.append((gradients, dict(generator.named_buffers())))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    assert found[1][1]["up_norm.num_batches_tracked"] == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", ["pretrain", "extract", "finetune"])
def test_a_stage_holds_less(stage, precision):
    held = []
    for recompute in (False, True):
        config = load_preset("mask_rcnn_r18_fpn", [f"{stage}.solver.recompute={recompute}"])
        held.append(of_stage(config, stage, precision, None, (256, 320)).further)
    assert held[1] < 0.8 * held[0]


def test_what_has_neither_network_is_refused():
    with pytest.raises(InputError, match="no generator and no discriminator"):
        recompute_activations(build("finetune", config_of("nn")))


def test_compiled_networks_choose_themselves():
    with pytest.raises(InputError, match="recompute and compile exclude each other"):
        config_of("srf", "pretrain.solver.recompute=true", "pretrain.solver.compile=true")
