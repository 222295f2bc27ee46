"""A detector's pyramid with different upsampling methods swapped into its neck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.factory import build_upsampler
from srfgan.models.modes import evaluating
from srfgan.models.upsamplers import UPSAMPLERS

METHODS = tuple(UPSAMPLERS)


@dataclass(frozen=True)
class LevelMaps:
    """One pyramid level of one image by several methods.

    Attributes:
        maps: (C, h, w) float32 on the CPU by method, without the batch's padding.
        untrained: the learned methods among them that had no trained weights.
    """

    maps: dict[str, Tensor]
    untrained: tuple[str, ...]


@dataclass(frozen=True)
class Swaps:
    """What upsamples in a detector's neck, by method.

    Attributes:
        modules: of each method.
        untrained: the learned methods among them whose weights are random.
    """

    modules: dict[str, nn.Module]
    untrained: tuple[str, ...]


def level_maps(
    model: Detector,
    image: Tensor,
    methods: Sequence[str],
    *,
    level: str = "p2",
    generators: Mapping[str, nn.Module] | None = None,
) -> LevelMaps:
    """Compute a pyramid level with each method in place of the detector's own upsampler.

    Everything else stays: backbone, lateral and output convolutions. A guided method gets the detector's lateral
    maps, as in training. The detector is left as it was.

    Args:
        model: a detector with a top-down neck; its own upsampler serves for the method it was built with.
        image: (3, H, W) RGB uint8 or float 0..255, at the size that the detector is to see.
        methods: of `METHODS`, each once.
        level: of the detector's own (`p2`..`p6` or `p3`..`p7`); those from p5 on are above the first
            upsampling, so all methods agree there.
        generators: trained generators by method, for what the detector does not hold itself. Learned
            methods that neither holds get fixed random weights.

    Raises:
        InputError: an unknown method or level, or a detector without a pyramid.
    """
    check_level(model, level)
    swaps = swaps_of(model, methods, generators)
    maps: dict[str, Tensor] = {}
    with as_it_was(model), torch.inference_mode():
        batch, _ = model.preprocess([image])
        for method, pyramid in pyramids(model, batch, swaps.modules):
            full = pyramid[level][0]
            rows, columns = (
                -(-side * across // padded)
                for side, across, padded in zip(
                    image.shape[-2:], full.shape[-2:], batch.shape[-2:], strict=True
                )
            )
            maps[method] = full[:, :rows, :columns].float().cpu()
    return LevelMaps(maps, swaps.untrained)


def swaps_of(
    model: Detector, methods: Sequence[str], generators: Mapping[str, nn.Module] | None = None
) -> Swaps:
    """The detector's own upsampler, one of `generators`, or one without weights or with fixed random ones.

    Args:
        model: its own upsampler serves for the method it was built with.
        methods: of `METHODS`, each once.
        generators: trained ones by method.

    Raises:
        InputError: an unknown method, none, or one twice; or nothing in the detector is upsampled.
    """
    check_methods(methods)
    check_pyramid(model)
    trained = dict(generators or {})
    trained[model.config.neck.upsampler] = model.neck.get_submodule("upsample")
    modules = {name: trained.get(name) or _untrained(name, model.config.neck.channels) for name in methods}
    random = [
        name for name in methods if name not in trained and next(modules[name].parameters(), None) is not None
    ]
    return Swaps(modules, tuple(random))


def pyramids(
    model: Detector, batch: Tensor, upsamplers: Mapping[str, nn.Module]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The pyramid of a preprocessed batch with each upsampler in turn in the detector's neck, where the last stays."""
    features = model.backbone(batch)
    for method, upsample in upsamplers.items():
        model.neck.upsample = upsample.to(batch.device).eval()
        yield method, model.neck(features)


def check_methods(methods: Sequence[str]) -> None:
    """Whether these are methods, each once.

    Raises:
        InputError: they are not.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        named = f"unknown method {unknown[0]!r}" if unknown else "no method given"
        raise InputError(f"--methods: {named}; choose from {', '.join(METHODS)}")
    if len(set(methods)) < len(methods):
        raise InputError(f"--methods {','.join(methods)}: names a method twice")


def check_pyramid(model: Detector) -> None:
    """Whether a detector has a pyramid.

    Raises:
        InputError: it has not.
    """
    if not model.config.has_pyramid:
        raise InputError(f"a {model.config.detector} has no pyramid, and nothing in it is upsampled")


def check_level(model: Detector, level: str) -> None:
    """Whether a detector has a pyramid level.

    Raises:
        InputError: it has not, or has no pyramid at all.
    """
    check_pyramid(model)
    levels = model.config.levels
    if level not in levels:
        raise InputError(f"no pyramid level {level!r} in this detector; choose from {', '.join(levels)}")


def _untrained(method: str, channels: int) -> nn.Module:
    """An upsampler with random weights that are the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_upsampler(method, channels)


@contextmanager
def as_it_was(model: Detector) -> Iterator[None]:
    """Evaluation mode inside; the detector's own upsampler and mode again afterwards."""
    upsample = model.neck.upsample
    with evaluating(model):
        try:
            yield
        finally:
            model.neck.upsample = upsample
