"""Networks of SRF-GAN and AFI-GAN detectors, importable without the command line.

    from models import build_detector, build_generator, build_discriminator

The names are resolved on first use, so that `models.config` and `models.errors` cost no import of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.factory import build_detector, build_discriminator, build_generator, build_upsampler
    from models.structures import Detections, MaskPatch, Polygons, Target
    from models.torchvision_fpn import replace_upsampling

__all__ = [
    "Detections",
    "MaskPatch",
    "Polygons",
    "Target",
    "build_detector",
    "build_discriminator",
    "build_generator",
    "build_upsampler",
    "replace_upsampling",
]

_HOME = {
    "Detections": "models.structures",
    "MaskPatch": "models.structures",
    "Polygons": "models.structures",
    "Target": "models.structures",
    "build_detector": "models.factory",
    "build_discriminator": "models.factory",
    "build_generator": "models.factory",
    "build_upsampler": "models.factory",
    "replace_upsampling": "models.torchvision_fpn",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
