"""Backbone weights that training starts from; fetched only when a training really does."""

from __future__ import annotations

from collections.abc import Sequence

from srfgan.models.config import BackboneConfig, ModelConfig
from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.weights import (
    Checkpoint,
    LoadReport,
    load_backbone,
    load_imagenet,
    load_weights,
    read_checkpoint,
)
from srfgan_cli.downloads.cache import fetch
from srfgan_cli.downloads.places import weights_folder
from srfgan_cli.presets.config import Config
from srfgan_cli.screen.console import stderr

MSRA = {
    "r50": "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl",
    "r101": "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-101.pkl",
}
FROM_NOTHING = (
    "train from nothing with --set initial_weights=none --set model.backbone.norm=bn "
    "--set model.backbone.freeze_at=0"
)

_IMAGENET_PIXELS = "model.pixel={order: RGB, mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]}"
_MSRA_PIXELS = "model.pixel={order: BGR, mean: [103.53, 116.28, 123.675], std: [1, 1, 1]}"
_WITH_BOTTLENECKS = ("r50", "r101", "x101_64x4d")
"""Backbones to which `stride_in_1x1` makes a difference."""


def unlike(wanted: str, model: ModelConfig) -> list[str]:
    """What the weights that a preset names were trained with and `model` has otherwise, as `--set` takes it.

    A `timm/NAME` has timm's own pixels, or ones that were given for it; of a file nobody knows.
    """
    backbone, pixel = model.backbone, model.pixel
    if wanted not in ("imagenet", "msra") or backbone.timm_name is not None:
        return []
    imagenet = wanted == "imagenet"
    others = []
    if (pixel.order, max(pixel.std) > 1) != (("RGB", True) if imagenet else ("BGR", False)):
        others.append(_IMAGENET_PIXELS if imagenet else _MSRA_PIXELS)
    return others + _other_strides(backbone, not imagenet)


def differing(trained: ModelConfig, wanted: ModelConfig) -> list[str]:
    """What weights of `trained` know and `wanted` has otherwise, which no shape tells; as `--set` takes it."""
    others, pixel = [], trained.pixel
    if pixel != wanted.pixel:
        others.append(f"model.pixel={{order: {pixel.order}, mean: {pixel.mean}, std: {pixel.std}}}")
    return others + _other_strides(wanted.backbone, trained.backbone.stride_in_1x1)


def _other_strides(backbone: BackboneConfig, trained: bool) -> list[str]:
    """The setting of `stride_in_1x1` as trained, where it matters and the backbone has another."""
    if backbone.name not in _WITH_BOTTLENECKS or backbone.stride_in_1x1 == trained:
        return []
    return [f"model.backbone.stride_in_1x1={str(trained).lower()}"]


def tell_of_other_pixels(whose: str, others: Sequence[str]) -> None:
    """Say that weights know other pixels or strides than their network has, if there are any: it learns badly so.

    Args:
        whose: the beginning of the sentence, which names the weights.
        others: what they were trained with, as `unlike` and `differing` give it.
    """
    if others:
        options = " ".join(f"--set '{setting}'" for setting in others)
        stderr.print(
            f"{whose} were trained with other pixels or strides than this preset's. As they were: {options}",
            style="yellow",
            soft_wrap=True,
        )


def tell_if_trained_otherwise(whose: str, checkpoint: Checkpoint, wanted: ModelConfig) -> None:
    """Say that our checkpoint's weights know other pixels or strides than `wanted` has, which no shape tells.

    Args:
        whose: as for `tell_of_other_pixels`.
    """
    try:
        trained = checkpoint.model_config()
    except InputError:  # of a version with other options; its weights can be used
        return
    if trained is not None:
        tell_of_other_pixels(whose, differing(trained, wanted))


def load_initial(detector: Detector, config: Config) -> None:
    """Load the weights that the preset names into the backbone.

    Raises:
        InputError: they cannot be had here, which names the file to put where; or do not fit.
    """
    wanted = config.initial_weights
    if wanted == "none":
        return
    whose = f"initial_weights: the weights of {wanted}"
    if wanted == "imagenet":
        report = load_imagenet(detector, weights_folder())
    elif wanted == "msra":
        report = _load_msra(detector, config.model.backbone.name)
    else:
        checkpoint = read_checkpoint(wanted)
        report = load_backbone(detector, checkpoint)
        tell_if_trained_otherwise(whose, checkpoint, config.model)
    if not report.complete:
        stderr.print(report.summary(), soft_wrap=True)
    tell_of_other_pixels(whose, unlike(wanted, config.model))


def _load_msra(detector: Detector, backbone: str) -> LoadReport:
    if backbone not in MSRA:
        raise InputError(
            f"initial_weights: msra has no weights for {backbone}; use imagenet, a file or none."
        )
    try:
        path = fetch(MSRA[backbone], read_checkpoint)
    except InputError as error:
        raise InputError(f"The backbone's initial weights: {error} Or {FROM_NOTHING}.") from None
    return load_weights(detector, path, parts=("backbone",), warn=False)
