"""Networks of SRF-GAN and AFI-GAN detectors, importable without the command line.

    from srfgan.models import build_detector, build_generator, build_discriminator

The names are resolved on first use, so that `srfgan.models.config` and `.errors` cost no import of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srfgan import load_detector
    from srfgan.models.factory import build_detector, build_discriminator, build_generator, build_upsampler
    from srfgan.models.instance_masks import MaskPatch, Polygons
    from srfgan.models.replacement.replace import replace_upsampling, upsampled_maps
    from srfgan.models.structures import Detections, Target

__all__ = [
    "Detections",
    "MaskPatch",
    "Polygons",
    "Target",
    "build_detector",
    "build_discriminator",
    "build_generator",
    "build_upsampler",
    "load_detector",
    "replace_upsampling",
    "upsampled_maps",
]

_HOME = {
    "Detections": "srfgan.models.structures",
    "MaskPatch": "srfgan.models.instance_masks",
    "Polygons": "srfgan.models.instance_masks",
    "Target": "srfgan.models.structures",
    "build_detector": "srfgan.models.factory",
    "build_discriminator": "srfgan.models.factory",
    "build_generator": "srfgan.models.factory",
    "build_upsampler": "srfgan.models.factory",
    "load_detector": "srfgan",
    "replace_upsampling": "srfgan.models.replacement.replace",
    "upsampled_maps": "srfgan.models.replacement.replace",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


if __name__ == "models":  # a checkout's short name
    from srfgan.checkout import stand_for_models

    stand_for_models()
