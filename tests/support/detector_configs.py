"""Configs of any detector from one set of small sections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from models.config import ModelConfig, own_sections, parse_model


def model_config(detector: str = "mask_rcnn", **sections: Any) -> ModelConfig:
    """A detector with these sections; those that only others have are left out."""
    return parse_model({"detector": detector, **own_sections(sections, detector)})


def fitting(overrides: Iterable[str], detector: str) -> list[str]:
    """Of overrides `model.section.key=value` those whose section this detector has; the others as they are."""
    return [text for text in overrides if not _is_foreign(text.partition("=")[0].split("."), detector)]


def _is_foreign(keys: list[str], detector: str) -> bool:
    return keys[0] == "model" and not own_sections({keys[1]: None}, detector)
