"""Configs of any detector from one set of small sections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from srfgan.models.config import DETECTORS, ModelConfig, own_sections, parse_model


def model_config(detector: str = "mask_rcnn", **sections: Any) -> ModelConfig:
    """A detector with these sections; those that only others have are left out."""
    return parse_model({"detector": detector, **own_sections(sections, detector)})


def small_mask_rcnn(upsampler: str, **sections: Any) -> ModelConfig:
    """Of two classes, on a ResNet-18 that trains from nothing."""
    return model_config(
        num_classes=2,
        backbone={"name": "r18", "norm": "bn", "freeze_at": 0},
        neck={"channels": 16, "upsampler": upsampler},
        box_head={"fc_dim": 16},
        mask_head={"channels": 8, "num_convs": 1},
        **sections,
    )


def fitting(overrides: Iterable[str], detector: str) -> list[str]:
    """Of overrides `model.section.key=value` those whose section this detector has; the others as they are."""
    return [text for text in overrides if not _is_foreign(text.partition("=")[0].split("."), detector)]


def stages_of(detector: str) -> list[str]:
    """Overrides of a preset of all stages: a detector without a pyramid has only the last."""
    return [] if DETECTORS[detector].has_pyramid else ["stages=[finetune]", "finetune.reuse=none"]


def _is_foreign(keys: list[str], detector: str) -> bool:
    return keys[0] == "model" and not own_sections({keys[1]: None}, detector)
