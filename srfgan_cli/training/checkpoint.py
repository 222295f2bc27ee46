"""Checkpoints: one file holds everything, written beside its place and renamed into it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from models.errors import InputError

FORMAT = "srfgan"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees the old or the new content, never a part.

    Raises:
        InputError: the disk is full or not writable; the old file is still there.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        kept = " The last complete one is kept." if path.exists() else ""
        raise InputError(f"Cannot write {path}: {_reason(error)}.{kept}") from None


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
    if not path.is_file():
        raise InputError(f"Checkpoint {path} does not exist.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"Checkpoint {path} cannot be read (truncated or not a checkpoint): {_first_line(error)}"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a checkpoint of srfgan.")
    return content


def _reason(error: BaseException) -> str:
    # torch's zip writer hides a failing write behind a RuntimeError; the OSError is its cause.
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.strerror:
            return chain.strerror
        chain = chain.__cause__ or chain.__context__
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
