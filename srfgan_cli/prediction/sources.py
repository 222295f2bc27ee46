"""What is named to be looked at: files, folders, patterns, lists on stdin; images and videos told apart."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.data.images import is_image_name, list_images

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})


@dataclass(frozen=True)
class Sources:
    """Files to look at, each once, in the order in which they were named."""

    images: list[Path]
    videos: list[Path]


def find(named: Sequence[str]) -> Sources:
    """The files that a command line names.

    Args:
        named: files; folders, whose images and videos are meant; patterns (`*`, `?`, `[]`; `**` for all folders
            below) that no shell has resolved; `-`: such lines on stdin.

    Raises:
        InputError: one is not there, or holds nothing to look at.
    """
    files = list(dict.fromkeys(path for one in named for path in _found(one)))
    videos = [path for path in files if is_video(path)]
    return Sources([path for path in files if not is_video(path)], videos)


def is_video(path: Path) -> bool:
    """Whether a file is taken for a video, by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _found(named: str) -> Iterator[Path]:
    if named == "-":
        lines = _lines()
        for line in filter(None, lines):
            yield from _found_file(line)
        if not any(lines):
            raise InputError("-: stdin held no path; it takes one on each line.")
        return
    yield from _found_file(named)


def _lines() -> list[str]:
    """The lines of stdin, as paths: their bytes need be no UTF-8."""
    if sys.stdin is None:  # closed by whoever started the command
        return []
    binary = getattr(sys.stdin, "buffer", None)
    content = os.fsencode(sys.stdin.read()) if binary is None else binary.read()
    return [os.fsdecode(line) for line in content.splitlines()]


def _found_file(named: str) -> Iterator[Path]:
    path = Path(named)
    if path.is_dir():
        videos = [file for file in sorted(path.iterdir()) if is_video(file) and not file.name.startswith(".")]
        yield from [] if videos and not any(map(is_image_name, _names(path))) else list_images(path)
        yield from videos
    elif path.exists() or not glob.has_magic(named):
        if not path.exists():
            raise InputError(f"{named}: no such file or folder.")
        yield path
    else:
        _check_pattern(named, path)
        matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        wanted = [match for match in matches if is_image_name(match.name) or is_video(match)]
        if not wanted:
            raise InputError(f"{named}: no image or video has such a name.")
        yield from wanted


def _check_pattern(named: str, path: Path) -> None:
    """Refuse `**` with something beside it: Python raises, or from 3.13 on takes it for `*`."""
    if all(part == "**" or "**" not in part for part in path.parts):
        return
    parts = [
        part if part == "**" or "**" not in part else f"**/{re.sub(r'[*]{2,}', '*', part)}"
        for part in path.parts
    ]
    raise InputError(f"{named}: '**' stands for folders, alone between slashes; try '{Path(*parts)}'.")


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]
