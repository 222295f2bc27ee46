"""What a run costs before it has run: multiply-accumulates per image, and an estimate of hours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from srfgan.models import build_discriminator, build_upsampler
from srfgan.models.config import DiscriminatorConfig, GeneratorConfig, ModelConfig, parse_model
from srfgan.models.count import cost_of
from srfgan_cli.machine.precision import autocast, float32_products
from srfgan_cli.presets.config import AdversarialConfig, Config, Precision
from srfgan_cli.reproduction.graph import Job

ASPECT = 1216 / 800
"""Long side over short side of the image that costs are counted on: a usual one of COCO."""
BACKWARD = 2
"""A backward pass costs about two forward passes."""
JUDGED = 7
"""Forward passes that D's work on one map is worth: real and fake forward and backward, and once back to G."""


def job_gmacs(job: Job) -> float:
    """Billions of multiply-accumulates of one training image in a job, forward and backward.

    Counts backbones, necks, generator and discriminator, on an image of the middle training size. Heads
    are left out: their share depends on what they find.
    """
    config, size = job.config, _image_size(job.config)
    if job.kind == "eval":
        return 0.0
    if job.kind == "finetune":
        return _pyramid(config.model, size) * (1 + BACKWARD)
    half = (size[0] // 2, size[1] // 2)
    guide = _pyramid(config.model.plain(), size)
    return guide + (_pretrain(config, size, half) if job.kind == "pretrain" else _extract(config, size, half))


def _pretrain(config: Config, size: tuple[int, int], half: tuple[int, int]) -> float:
    """Stage 1 without the guide on the image itself: the guide on its half, G on these maps, and D on larger ones."""
    neck, adversarial = config.model.neck, config.pretrain.adversarial
    low = _level_sizes(adversarial.levels, half)
    made = sum(_upsampler(neck.upsampler, neck.channels, neck.generator, level) for level in low)
    taught = 0.0
    if config.pretrain.distill is not None:  # whose generator is taken to be of the paper's size
        taught = sum(_upsampler(neck.upsampler, neck.channels, None, level) for level in low)
    guide = _pyramid(config.model.plain(), half)
    return guide + taught + made * (1 + BACKWARD) + _judged(config, adversarial, size)


def _extract(config: Config, size: tuple[int, int], half: tuple[int, int]) -> float:
    """Stage 2 without the guide: M and D, on the half-size image or, at different levels, on the image itself."""
    neck, adversarial = config.model.neck, config.extract.adversarial
    if config.extract.pairing == "same":
        return _pyramid(config.model, half) * (1 + BACKWARD) + _judged(config, adversarial, half)
    above = [f"p{int(level[1:]) + 1}" for level in adversarial.levels]
    maps = _level_sizes(above, size)
    made = sum(_upsampler(neck.upsampler, neck.channels, neck.generator, level) for level in maps)
    return (_pyramid(config.model, size) + made) * (1 + BACKWARD) + _judged(config, adversarial, size)


def _judged(config: Config, adversarial: AdversarialConfig, size: tuple[int, int]) -> float:
    """D's work on the compared levels of an image of `size`, or on its windows of them; 0 where there is no D."""
    if not adversarial.judged:
        return 0.0
    critic, channels = config.discriminator.model_dump_json(), config.model.neck.channels
    maps = _level_sizes(adversarial.levels, size)
    if (side := adversarial.window) is not None:
        maps = [(min(side, height), min(side, width)) for height, width in maps]
    return sum(_discriminator(critic, channels, level) for level in maps) * JUDGED


def work(job: Job) -> float:
    """A job's whole cost in billions of multiply-accumulates; an evaluation counts as little."""
    return max(1.0, job_gmacs(job) * job.images)


@cache
def device_gmacs_per_second(kind: str, precision: Precision = "fp32") -> float:
    """Billions of multiply-accumulates per second of a 3x3 convolution of 256 channels, forward and backward.

    Args:
        kind: `cpu` or `cuda`, measured in about a second.
    """
    device = torch.device(kind)
    conv = nn.Conv2d(256, 256, 3, padding=1).to(device)
    maps = torch.randn(1, 256, 50, 76, device=device)
    done, started = 0, 0.0
    while done < 3 or time.perf_counter() - started < 1:
        if done == 2:  # the first two passes set things up
            started = time.perf_counter()
        with float32_products(precision), autocast(device, precision):
            conv(maps.requires_grad_()).sum().backward()
        if kind == "cuda":
            torch.cuda.synchronize()
        done += 1
    gmacs = 256 * 256 * 9 * 50 * 76 * (1 + BACKWARD) / 1e9
    return gmacs * (done - 2) / (time.perf_counter() - started)


def hours(job: Job, kind: str, devices: int) -> float:
    """An estimate of a training's hours on `devices` processors of one kind; data loading and heads are not in it."""
    precision = job.solver.precision if job.solver else "fp32"
    return job_gmacs(job) * job.images / device_gmacs_per_second(kind, precision) / devices / 3600


def _image_size(config: Config) -> tuple[int, int]:
    sides = sorted(config.data.short_sides)
    short = sides[len(sides) // 2]
    return short, min(round(short * ASPECT), max(short, config.data.max_side))


def _level_sizes(levels: Sequence[str], size: tuple[int, int]) -> list[tuple[int, int]]:
    """The map of each of these pyramid levels of an image of `size`."""
    return [(-(-size[0] // 2 ** int(level[1:])), -(-size[1] // 2 ** int(level[1:]))) for level in levels]


def _pyramid(model: ModelConfig, size: tuple[int, int]) -> float:
    return _pyramid_of(model.model_dump_json(), size)


@cache
def _pyramid_of(model_json: str, size: tuple[int, int]) -> float:
    cost = cost_of(parse_model(json.loads(model_json)), *size)
    return (cost.backbone + cost.neck) / 1e9


@cache
def _upsampler(name: str, channels: int, inside: GeneratorConfig | None, size: tuple[int, int]) -> float:
    with torch.device("meta"):
        return _on_maps(build_upsampler(name, channels, inside), channels, size)


@cache
def _discriminator(config_json: str, channels: int, size: tuple[int, int]) -> float:
    with torch.device("meta"):
        discriminator = build_discriminator(DiscriminatorConfig.model_validate_json(config_json), channels)
        return _on_maps(discriminator, channels, size)


def _on_maps(module: nn.Module, channels: int, size: tuple[int, int]) -> float:
    maps = torch.zeros(1, channels, *size)
    return _count(lambda: module.eval()(maps))


def _count(run: Callable[[], object]) -> float:
    # Not inference_mode, in which the counter's hooks fail on a parameter that is an input of a module: spectral norms.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops() / 2e9)
