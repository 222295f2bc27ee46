"""What a run costs before it has run: multiply-accumulates per image, and an estimate of hours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from srfgan.models import build_discriminator, build_upsampler
from srfgan.models.config import DiscriminatorConfig, GeneratorConfig, ModelConfig, parse_model
from srfgan.models.count import cost_of
from srfgan_cli.machine.precision import autocast, float32_products
from srfgan_cli.presets.config import Config, Precision
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
    half = (size[0] // 2, size[1] // 2)
    if job.kind == "eval":
        return 0.0
    if job.kind == "finetune":
        return _pyramid(config.model, size) * (1 + BACKWARD)
    neck, guide, maps = (
        config.model.neck,
        _pyramid(config.model.plain(), size),
        _level_sizes(config, half),
    )
    critic = config.discriminator.model_dump_json()
    judged = sum(_discriminator(critic, neck.channels, level) for level in maps) * JUDGED
    if job.kind == "pretrain":
        made = sum(_upsampler(neck.upsampler, neck.channels, neck.generator, level) for level in maps)
        if config.pretrain.distill is not None:  # whose generator is taken to be of the paper's size
            guide += sum(_upsampler(neck.upsampler, neck.channels, None, level) for level in maps)
        # D sees maps of the original's size, which have four times the pixels of the half-size image's.
        return guide + _pyramid(config.model.plain(), half) + made * (1 + BACKWARD) + 4 * judged
    return guide + _pyramid(config.model, half) * (1 + BACKWARD) + judged


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


def _level_sizes(config: Config, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The map of each compared pyramid level of an image of `size`."""
    levels = config.pretrain.adversarial.levels
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
