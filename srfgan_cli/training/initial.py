"""Backbone weights that training starts from; fetched only when a training really does."""

from __future__ import annotations

from pathlib import Path

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
