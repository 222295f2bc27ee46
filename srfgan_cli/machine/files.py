"""Writing files so that neither a full disk nor a kill leaves a broken one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from srfgan.models.errors import InputError

_LONGEST = 255
"""Bytes of a file's name on nearly all file systems."""


def shortened(name: str, tail: str) -> str:
    """A file's name: `name`, cut where the system could not have it otherwise, and `tail`."""
    while len(os.fsencode(name + tail)) > _LONGEST:
        name = name[:-1]
    return name + tail


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees the old or the new content, never a part; its folder is made.

    Raises:
        InputError: the disk is full or not writable; the old file is still there.
    """
    # Another process may write the same file.
    temporary = path.with_name(shortened(path.name, f".{os.getpid()}.part"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        kept = " The last complete one is kept." if path.exists() else ""
        raise InputError(f"Cannot write {path}: {_reason(error)}.{kept}") from None
    finally:
        with suppress(
            OSError
        ):  # there is one after a failure or a Ctrl-C only; where even this fails, that says why
            temporary.unlink()


def require_writable(folder: Path) -> None:
    """Whether files can be written to a folder that is there or can be made: told before long work, not after it.

    Raises:
        InputError: they cannot.
    """
    try:
        TemporaryFile(dir=next(place for place in (folder, *folder.parents) if place.exists())).close()
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {_reason(error)}.") from None


def user_caches() -> Path:
    """Where all programs keep the user's files that can be made again: `$XDG_CACHE_HOME` or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def cache_folder() -> Path:
    """This program's own: `srfgan` in `user_caches`."""
    return user_caches() / "srfgan"


def file_hash(path: Path) -> str:
    """A file's sha256, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: BaseException) -> str:
    # torch's zip writer hides a failing write behind a RuntimeError; the OSError is its cause.
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.strerror:
            return chain.strerror
        chain = chain.__cause__ or chain.__context__
    return first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def in_one_line(error: BaseException) -> str:
    """An error's text, shortened, without the lines that say where in a runtime's own code it is from."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(told)[:300] or type(error).__name__
