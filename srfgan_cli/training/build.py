"""From a plan to its stage: which networks it has, and where their first weights come from."""

from __future__ import annotations

from torch import nn

from srfgan.models import build_detector, build_discriminator, build_generator
from srfgan.models.config import ModelConfig
from srfgan.models.detector import Detector
from srfgan.models.upsamplers.generators import make_phases_equal
from srfgan.models.weights import Checkpoint, read_checkpoint
from srfgan.models.weights.generator import load_generator
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets.config import Config
from srfgan_cli.runs.plan import Plan
from srfgan_cli.screen.console import stderr
from srfgan_cli.training import sources
from srfgan_cli.training.class_weights import weigh_classes
from srfgan_cli.training.compilation import compile_networks
from srfgan_cli.training.extract import ExtractStage
from srfgan_cli.training.finetune import FinetuneStage
from srfgan_cli.training.initial import load_initial
from srfgan_cli.training.pretrain import Distillation, PretrainStage
from srfgan_cli.training.recomputation import recompute_activations
from srfgan_cli.training.stage import Stage


def build_stage(plan: Plan, model: ModelConfig, categories: CategoryMap, world: World) -> Stage:
    """The stage of a plan, its networks loaded from the earlier stages.

    A run that resumes gets its weights from its checkpoint afterwards.

    Raises:
        InputError: a source that is missing or does not fit.
    """
    stage = _build(plan, model, categories, world)
    if plan.solver.recompute:
        recompute_activations(stage)
    if plan.solver.compile:
        compile_networks(stage, world.device)
    return stage


def _build(
    plan: Plan, model: ModelConfig, categories: CategoryMap, world: World
) -> PretrainStage | ExtractStage | FinetuneStage:
    if plan.stage == "pretrain":
        return _build_pretrain(plan, model, world)
    if plan.stage == "extract":
        return _build_extract(plan, model, categories, world)
    return FinetuneStage(_build_target(plan, model, categories), plan.config.finetune, world)


def _build_pretrain(plan: Plan, model: ModelConfig, world: World) -> PretrainStage:
    config = plan.config
    assert plan.guide is not None
    channels = model.neck.channels
    generator = build_generator(model.neck.upsampler, channels, model.neck.generator)
    if config.pretrain.equal_phases:
        make_phases_equal(generator)
    return PretrainStage(
        sources.load_guide(plan.guide, model),
        generator,
        build_discriminator(config.discriminator, channels) if config.pretrain.adversarial.judged else None,
        config.pretrain.adversarial,
        config.data.degradation,
        config.pretrain.solver,
        world,
        _distillation(plan, channels),
    )


def _distillation(plan: Plan, channels: int) -> Distillation | None:
    settings = plan.config.pretrain.distill
    if settings is None:
        return None
    assert plan.distill is not None
    return Distillation(load_generator(plan.distill, channels)[1], settings.weight)


def _build_extract(plan: Plan, model: ModelConfig, categories: CategoryMap, world: World) -> ExtractStage:
    config = plan.config
    assert plan.guide is not None and plan.generator is not None
    detector = _fresh_detector(plan, model.scaled(config.extract.anchor_scale), categories)
    stage_1 = read_checkpoint(plan.generator)
    sources.take_generator(detector, stage_1)
    discriminator = _discriminator_after(stage_1, config, model.neck.channels)
    guide = sources.load_guide(plan.guide, model)
    return ExtractStage(guide, detector, discriminator, config.extract, config.data.degradation, world)


def _discriminator_after(stage_1: Checkpoint, config: Config, channels: int) -> nn.Module | None:
    """D of stage 2: that of stage 1, or a new one where stage 1 has none by its config."""
    if not config.extract.adversarial.judged:
        return None
    if not config.pretrain.adversarial.judged:
        stderr.print(
            "The discriminator is a new one: with pretrain.adversarial.weight 0, stage 1 trains none."
        )
        return build_discriminator(config.discriminator, channels)
    return sources.load_discriminator(stage_1, config.discriminator, channels)


def _build_target(plan: Plan, model: ModelConfig, categories: CategoryMap) -> Detector:
    detector = _fresh_detector(plan, model, categories)
    if plan.extractor is not None and plan.config.finetune.reuse == "M":
        sources.take_extractor(detector, plan.extractor)
    elif plan.extractor is not None or plan.generator is not None:
        path = plan.generator or plan.extractor
        assert path is not None
        sources.take_generator(detector, path)
    weigh_classes(detector, plan.config.finetune.class_weights, categories)
    return detector


def _fresh_detector(plan: Plan, model: ModelConfig, categories: CategoryMap) -> Detector:
    detector = build_detector(model)
    if plan.options.resume:
        return detector
    takes_extractor = plan.stage == "finetune" and plan.config.finetune.reuse == "M"
    from_guide = plan.stage != "pretrain" and getattr(plan.config, plan.stage).start_from_guide
    start = plan.weights or (plan.guide if from_guide else None)
    if start is not None:
        sources.load_start(detector, start, categories)
    elif not takes_extractor:
        load_initial(detector, plan.config)
    return detector
