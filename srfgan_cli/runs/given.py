"""The file that is meant where weights are asked for: itself, a run's or a shared folder, or a model on the hub."""

from __future__ import annotations

from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.downloads.hub import HUB_FILE, from_hub, is_on_hub

_EXPORTED = (".onnx", ".xml")


def is_exported(path: Path | None) -> bool:
    """Whether the name is that of an exported file: ONNX, or what OpenVINO has made of it."""
    return path is not None and path.suffix.lower() in _EXPORTED


def weight_file(path: Path) -> Path:
    """The file with the weights; a path that names nothing is left for its reader to complain of.

    Args:
        path: a file; the folder of a finished run (`model.pt`) or of `srfgan export --format hub`
            (`model.safetensors`); or `hf://OWNER/NAME`, which is fetched.

    Raises:
        InputError: a folder without either, or a model that cannot be fetched.
    """
    if is_on_hub(path):
        return from_hub(path)
    if not path.is_dir():
        return path
    for name in ("model.pt", HUB_FILE):
        if (path / name).is_file():
            return path / name
    unfinished = " Its run has not ended yet." if (path / "checkpoint.pt").is_file() else ""
    raise InputError(f"{path}: the folder holds no model.pt and no {HUB_FILE}.{unfinished}")
