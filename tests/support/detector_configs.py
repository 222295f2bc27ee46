"""Configs of any detector from one set of small sections."""

from __future__ import annotations

from typing import Any

from models.config import ModelConfig, own_sections, parse_model


def model_config(detector: str = "mask_rcnn", **sections: Any) -> ModelConfig:
    """A detector with these sections; those that only others have are left out."""
    return parse_model({"detector": detector, **own_sections(sections, detector)})
