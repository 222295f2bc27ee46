"""Backbone weights that training starts from; fetched only when a training really does."""

from __future__ import annotations

from pathlib import Path

from srfgan.models.config import ModelConfig
from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.weights import LoadReport, load_backbone, load_imagenet, load_weights, read_checkpoint
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
    settings = []
    if (pixel.order, max(pixel.std) > 1) != (("RGB", True) if imagenet else ("BGR", False)):
        settings.append(_IMAGENET_PIXELS if imagenet else _MSRA_PIXELS)
    if backbone.name in _WITH_BOTTLENECKS and backbone.stride_in_1x1 == imagenet:
        settings.append(f"model.backbone.stride_in_1x1={'false' if imagenet else 'true'}")
    return settings


def differing(trained: ModelConfig, wanted: ModelConfig) -> list[str]:
    """What weights of `trained` know and `wanted` has otherwise, which no shape tells; as `--set` takes it."""
    settings, pixel = [], trained.pixel
    if pixel != wanted.pixel:
        settings.append(f"model.pixel={{order: {pixel.order}, mean: {pixel.mean}, std: {pixel.std}}}")
    strides = [model.backbone.stride_in_1x1 for model in (trained, wanted)]
    if wanted.backbone.name in _WITH_BOTTLENECKS and strides[0] != strides[1]:
        settings.append(f"model.backbone.stride_in_1x1={str(strides[0]).lower()}")
    return settings


def load_initial(detector: Detector, config: Config) -> None:
    """Load the weights that the preset names into the backbone.

    Raises:
        InputError: they cannot be had here, which names the file to put where; or do not fit.
    """
    wanted = config.initial_weights
    if wanted == "none":
        return
    if wanted == "imagenet":
        report = load_imagenet(detector, weights_folder())
    elif wanted == "msra":
        report = _load_msra(detector, config.model.backbone.name)
    else:
        report = load_backbone(detector, Path(wanted))
    if not report.complete:
        stderr.print(report.summary(), soft_wrap=True)
    if other := unlike(wanted, config.model):
        options = " ".join(f"--set '{setting}'" for setting in other)
        stderr.print(
            f"initial_weights: the weights of {wanted} were trained with other pixels or strides than this preset's. "
            f"As they were: {options}",
            soft_wrap=True,
        )


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
