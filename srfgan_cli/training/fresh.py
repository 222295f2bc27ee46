"""A stage and its trainer without any file: random weights, and one batch again and again, to measure steps."""

from __future__ import annotations

from itertools import repeat

from srfgan.models import build_detector, build_discriminator, build_generator
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets.config import Config, SolverConfig, StageName
from srfgan_cli.training.engine import Hooks, Trainer
from srfgan_cli.training.extract import ExtractStage
from srfgan_cli.training.finetune import FinetuneStage
from srfgan_cli.training.pretrain import Distillation, PretrainStage
from srfgan_cli.training.stage import Stage


def fresh_stage(config: Config, stage: StageName, world: World) -> Stage:
    """The stage of a preset, all of its networks with random weights."""
    model, neck, degradation = config.model, config.model.neck, config.data.degradation
    if stage == "finetune":
        return FinetuneStage(build_detector(model), config.finetune, world)
    guide, judged = build_detector(model), getattr(config, stage).adversarial.judged
    discriminator = build_discriminator(config.discriminator, neck.channels) if judged else None
    if stage == "extract":
        return ExtractStage(guide, build_detector(model), discriminator, config.extract, degradation, world)
    recipe, generator = config.pretrain, build_generator(neck.upsampler, neck.channels, neck.generator)
    distillation = None
    if recipe.distill is not None:
        # The teacher is known when it is given; it is most likely of the paper's size.
        distillation = Distillation(build_generator(neck.upsampler, neck.channels), recipe.distill.weight)
    return PretrainStage(
        guide, generator, discriminator, recipe.adversarial, degradation, recipe.solver, world, distillation
    )


def standing_trainer(stage: Stage, solver: SolverConfig, world: World, batch: Batch) -> Trainer:
    """A trainer that gets `batch` in every step and saves nothing."""
    stage.train()
    return Trainer(stage, solver, world, repeat(batch), Hooks(save=lambda _: None))
