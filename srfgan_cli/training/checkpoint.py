"""Checkpoints: one file holds everything, written beside its place and renamed into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from srfgan.models.config import ModelConfig
from srfgan.models.errors import InputError
from srfgan.models.weights.files import FORMAT, read_content
from srfgan_cli import __version__
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.presets.config import Config


def header(stage: str, config: Config, model: ModelConfig | None, categories: CategoryMap) -> dict[str, Any]:
    """What every file of weights says of itself: enough to rebuild and use its networks without the preset.

    Args:
        model: of the detector in it, if there is one.
    """
    return {
        "version": __version__,
        "stage": stage,
        "preset": config.name,
        "config": config.model_dump(),
        "model": model.model_dump() if model is not None else None,
        "categories": categories.to_records(),
    }


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of plain containers and tensors atomically.

    Raises:
        InputError: see `write_atomically`.
    """
    write_atomically(path, lambda file: torch.save({"format": FORMAT, **content}, file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours on the CPU; nothing in it can run code.

    Raises:
        InputError: missing, truncated, or not a checkpoint of this program.
    """
    content = read_content(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a checkpoint of srfgan.")
    return content
