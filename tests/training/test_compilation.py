"""`--compile` changes how networks run, not what they are or give."""

import shutil

import pytest
import torch
from torch import nn

from srfgan.models import build_detector, build_discriminator, build_generator
from srfgan.models.errors import InputError
from srfgan.models.structures import Target
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import SolverConfig
from srfgan_cli.training.compilation import compile_networks
from srfgan_cli.training.engine import Hooks, Trainer
from srfgan_cli.training.finetune import FinetuneStage
from srfgan_cli.training.pretrain import PretrainStage

WORLD = World(torch.device("cpu"))
SOLVER = SolverConfig(iterations=2, lr=0.001, ema_decay=0.9)


@pytest.fixture
def config():
    small = [
        "model.backbone.name=r10",
        "model.neck.channels=16",
        "model.box_head.fc_dim=32",
        "model.num_classes=3",
        "discriminator.widths=[16]",
        "pretrain.adversarial.levels=[p4]",
        "initial_weights=none",
    ]
    return load_preset("faster_rcnn_r18_fpn", small)


def finetune(config) -> FinetuneStage:
    torch.manual_seed(0)
    return FinetuneStage(build_detector(config.model), config.finetune, WORLD)


def pretrain(config) -> PretrainStage:
    torch.manual_seed(0)
    networks = (
        build_detector(config.model),
        build_generator("srf", 16),
        build_discriminator(config.discriminator, 16),
    )
    return PretrainStage(*networks, config.pretrain.adversarial, "bilinear", SOLVER, WORLD)


def steps(stage) -> Trainer:
    """A trainer after two steps, on images of two sizes."""
    torch.manual_seed(1)
    target = Target(torch.tensor([[8.0, 8, 60, 70]]), torch.tensor([1]))
    batches = [
        Batch([torch.randint(0, 256, (3, side, 128), dtype=torch.uint8)], [target], [1], [(side, 128)])
        for side in (96, 160)
    ]
    trainer = Trainer(stage, SOLVER, WORLD, iter(batches), Hooks(save=lambda state: None))
    stage.train()
    for _ in batches:
        trainer.step()
    return trainer


def assert_same(plain: Trainer, compiled: Trainer) -> None:
    for before, after in zip(plain.measured.pending, compiled.measured.pending, strict=True):
        torch.testing.assert_close(after["losses"], before["losses"], rtol=1e-4, atol=1e-5)
    expected, state = plain.state()["modules"], compiled.state()["modules"]
    assert {n: list(m) for n, m in state.items()} == {n: list(m) for n, m in expected.items()}


def test_networks_are_compiled_in_place_under_their_names(config, monkeypatch):
    """With a backend that generates no code, which is quick."""
    original = nn.Module.compile
    compiled = []
    monkeypatch.setattr(
        nn.Module, "compile", lambda module: compiled.append(module) or original(module, backend="eager")
    )
    monkeypatch.setattr("srfgan_cli.training.compilation._require_compiler", lambda device: None)
    stage = finetune(config)
    compile_networks(stage, WORLD.device)
    assert compiled == [stage.detector.backbone, stage.detector.neck]
    assert_same(steps(finetune(config)), steps(stage))


def test_without_a_compiler_the_option_is_refused(config, monkeypatch):
    def fail(_function):
        raise RuntimeError("no g++ found\nmore lines")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(
        InputError, match=r"cannot compile for cpu here \(no g\+\+ found\)\. It needs a C\+\+"
    ):
        compile_networks(finetune(config), WORLD.device)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.parametrize("normalization", ["batch", "spectral"])
def test_compiled_networks_give_the_same_losses(config, normalization):
    judge = config.discriminator.model_copy(update={"normalization": normalization})
    config = config.model_copy(update={"discriminator": judge})
    stage = pretrain(config)
    compile_networks(stage, WORLD.device)
    assert_same(steps(pretrain(config)), steps(stage))
