"""Backbone weights that training starts from; fetched only when a training really does."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from models.detector import Detector
from models.errors import InputError
from models.weights import load_imagenet, load_weights
from srfgan_cli.config import Config
from srfgan_cli.console import stderr
from srfgan_cli.files import write_atomically

MSRA = {
    "r50": "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl",
    "r101": "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-101.pkl",
}
FROM_NOTHING = (
    "train from nothing with --set initial_weights=none --set model.backbone.norm=bn "
    "--set model.backbone.freeze_at=0"
)


def load_initial(detector: Detector, config: Config) -> None:
    """Load the ImageNet weights that the preset names into the backbone.

    Raises:
        InputError: they cannot be had here; names the file to put where.
    """
    if config.initial_weights == "imagenet":
        load_imagenet(detector, weights_folder())
    elif config.initial_weights == "msra":
        name = config.model.backbone.name
        if name not in MSRA:
            raise InputError(f"initial_weights: msra has no weights for {name}; use imagenet or none.")
        load_weights(detector, _cached(MSRA[name]), parts=("backbone",))


def weights_folder() -> Path:
    """Where fetched weights are kept: `$SRFGAN_WEIGHTS`, or `srfgan/weights` in the user's cache."""
    if "SRFGAN_WEIGHTS" in os.environ:
        return Path(os.environ["SRFGAN_WEIGHTS"])
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "srfgan" / "weights"


def _cached(url: str) -> Path:
    path = weights_folder() / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    stderr.print(f"Fetching {url}")
    try:
        with urlopen(url, timeout=30) as response:
            content = response.read()
    except (URLError, OSError) as error:
        raise InputError(
            f"The backbone's initial weights are not here and cannot be fetched ({error}). Put {url} to {path}, "
            f"or {FROM_NOTHING}."
        ) from None
    write_atomically(path, lambda file: file.write(content))
    return path
