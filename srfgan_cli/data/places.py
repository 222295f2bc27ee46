"""Where a data set's image files are: all there, regular files, and inside the image folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from srfgan.models.errors import InputError
from srfgan_cli.data.check import Kind
from srfgan_cli.data.images import MAX_PIXELS, MISSING

Place = Literal["inside", "outside", "missing", "no file"]

ALLOW_OUTSIDE = "--set data.outside=true allows it"


def file_kinds(
    names: list[str],
    sizes: np.ndarray,
    folder: Path,
    *,
    outside: bool = False,
    max_pixels: int = MAX_PIXELS,
    cure: str = ALLOW_OUTSIDE,
) -> list[Kind]:
    """What stops a data set before any of its image files is opened.

    Args:
        names: of N image files, relative to the image folder.
        sizes: (N, 2) their heights and widths, by the json.
        folder: the image folder; it may be a link itself.
        outside: files that are outside the folder may be used.
        max_pixels: how large an image may be, by the json's size.
        cure: what to do about files that are outside.

    Raises:
        InputError: a folder that cannot be listed.
    """
    places = np.array(_places(names, folder))
    pixels = sizes.astype(np.float64).prod(axis=1)
    too_large = f"image of more than {max_pixels:,} pixels; --set data.max_pixels=N allows N"
    kinds: list[Kind] = [
        (MISSING, "stops", places == "missing"),
        ("folder, pipe or device in place of an image", "stops", places == "no file"),
        (too_large, "stops", pixels > max_pixels),
    ]
    if not outside:
        leaves = f"image file outside the image folder; {cure}"
        kinds.append((leaves, "stops", places == "outside"))
    return kinds


def _places(names: list[str], folder: Path) -> list[Place]:
    """Where the file of each name is, links followed; lists each folder once instead of asking per file."""
    root = os.path.realpath(folder)
    listed: dict[str, dict[str, Place]] = {}
    places: list[Place] = []
    for name in names:
        parent, slash, base = name.rpartition("/")
        if parent + slash not in listed:
            listed[parent + slash] = _listing(folder / (parent + slash), root)
        place = listed[parent + slash].get(base, "missing")
        # Absolute names are outside wherever they lead: on another machine they lead nowhere.
        places.append("outside" if place == "inside" and name.startswith("/") else place)
    return places


def _listing(folder: Path, root: str) -> dict[str, Place]:
    if not os.path.isdir(folder):  # noqa: PTH112 - which is False for names that no file can have
        return {}
    try:
        with os.scandir(folder) as entries:
            places = {entry.name: _place(entry, root) for entry in entries}
    except OSError as error:
        raise InputError(f"{folder}: the folder of images cannot be listed ({error.strerror})") from None
    if _is_below(os.path.realpath(folder), root):
        return places
    return {name: "outside" if place == "inside" else place for name, place in places.items()}


def _place(entry: os.DirEntry[str], root: str) -> Place:
    try:
        if not entry.is_file():
            exists = not entry.is_symlink() or os.path.exists(entry.path)  # noqa: PTH110
            return "no file" if exists else "missing"
    except OSError:  # a link to itself
        return "missing"
    linked = entry.is_symlink()
    return "inside" if not linked or _is_below(os.path.realpath(entry.path), root) else "outside"


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
