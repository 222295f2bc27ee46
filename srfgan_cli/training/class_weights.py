"""Weights of classes in a detector's classification loss, by their names."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.presets.library import did_you_mean


def weigh_classes(detector: Detector, weights: Mapping[str, float], categories: CategoryMap) -> None:
    """Let the heads weigh what they learn of a box or place by its true class; background has 1.

    Args:
        weights: by names of the data's classes; those that are not named have 1. Empty: nothing changes.

    Raises:
        InputError: no class has a name, or the detector's losses cannot be weighted.
    """
    if not weights:
        return
    for name in weights:
        if name not in categories.names:
            near = did_you_mean(name, categories.names)
            raise InputError(f"finetune.class_weights: the data has no class {name!r}.{near}")
    heads = [module for module in detector.modules() if "class_weights" in module._buffers]
    if not heads:
        raise InputError(
            f"finetune.class_weights: {detector.config.detector} takes objects for its predictions by the loss itself, "
            "which has no weights of classes. Use data.repeat_threshold, or another detector."
        )
    of_label = torch.tensor([*(weights.get(name, 1.0) for name in categories.names), 1.0])
    for head in heads:
        head.class_weights = of_label.clone()
