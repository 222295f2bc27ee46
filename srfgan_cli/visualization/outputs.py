"""Where pictures go: one for each image, never over an image that is read or over somebody else's file."""

from __future__ import annotations

import hashlib
import os
import struct
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from srfgan.models.errors import InputError
from srfgan_cli.machine.files import shortened, write_atomically

_MARK = "srfgan-source"
"""The text in a PNG of ours that says, as a hash, what it is a picture of."""


def picture_names(images: Sequence[Path]) -> list[str]:
    """File names for the pictures of images, all different: `a.png` for `a.jpg`, or `a.jpg.png` beside an `a.gif`."""
    stems = Counter(_folded(path.stem) for path in images)
    taken: set[str] = set()
    names = []
    for path in images:
        wanted = path.stem if stems[_folded(path.stem)] == 1 else path.name
        name = next(name for name in numbered(f"{wanted}.png") if _folded(name) not in taken)
        taken.add(_folded(name))
        names.append(name)
    return names


def save_beside(picture: Image.Image, wanted: Path, *, of: str, images: Collection[Path]) -> Path:
    """Save a PNG by a name that is free, or is that of an earlier picture of the same.

    Args:
        picture: what to save.
        wanted: the path; where something else is there, the next free of `a-2.png`, `a-3.png`, ...
        of: what it shows, in which way, of which image.
        images: files that are read.

    Returns:
        Where it is now.

    Raises:
        InputError: it cannot be written.
    """
    mark = hashlib.sha256(os.fsencode(of)).hexdigest()[:32]
    path = next(
        path
        for path in map(wanted.with_name, numbered(wanted.name))
        if not os.path.lexists(path) or (_mark_of(path) == mark and not _is_any(path, images))
    )
    text = PngInfo()
    text.add_text(_MARK, mark)
    write_atomically(path, lambda file: picture.save(file, "PNG", pnginfo=text))
    return path


def save_as(picture: Image.Image, path: Path) -> None:
    """Save a picture as the file that the user has named, in the format of its suffix.

    Raises:
        InputError: it cannot be written, or is larger than the format allows.
    """
    name = Image.registered_extensions()[path.suffix.lower()]

    def write(file: BinaryIO) -> None:
        try:
            picture.save(file, name)
        except (OSError, ValueError, OverflowError, struct.error) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the format's
                raise
            size = f"{picture.width} x {picture.height} pixels"
            raise InputError(
                f"--output {path}: {name} cannot hold {size} ({error}). Name a .png, or show less."
            ) from None

    write_atomically(path, write)


def save_where_wanted(
    picture: Image.Image, output: Path | None, default: Path, *, of: str, images: Collection[Path]
) -> Path:
    """Save a picture as `output`, or beside what is there as `default`; see `save_as` and `save_beside`.

    Returns:
        Where it is now.

    Raises:
        InputError: it cannot be written.
    """
    if output is None:
        return save_beside(picture, default, of=of, images=images)
    save_as(picture, output)
    return output


def check_output(path: Path, images: Collection[Path]) -> None:
    """Whether a picture may be saved as the file that the user has named, before there is one.

    Raises:
        InputError: its suffix names no format, or it is one of the images.
    """
    if not is_picture_name(path):
        raise InputError(f"--output {path}: end it in .png or .jpg.")
    if _is_any(path, images):
        raise InputError(f"--output {path} is the image itself; name another file.")
    if path.is_dir():
        raise InputError(f"--output {path} is a folder; name a file.")


def is_ours(path: Path) -> bool:
    """Whether a file is a picture that was saved by `save_beside`."""
    return _mark_of(path) is not None


def is_picture_name(path: Path) -> bool:
    """Whether a path ends in the suffix of a format that can be written."""
    return Image.registered_extensions().get(path.suffix.lower()) in Image.SAVE


def numbered(name: str) -> Iterator[str]:
    """A file's or folder's name, and the next ones if it is taken: `a.png`, `a-2.png`, `a-3.png`, ...

    Names of more bytes than a system has are cut: an image's may be as long as any, and its picture's suffix longer.
    """
    path = Path(name)
    yield shortened(path.stem, path.suffix)
    yield from (shortened(path.stem, f"-{number}{path.suffix}") for number in count(2))


def _folded(name: str) -> str:
    """Equal for names that are one file on some system: macOS and Windows tell no case, macOS composes letters."""
    return unicodedata.normalize("NFC", name).casefold()


def _mark_of(path: Path) -> str | None:
    """What a file says that it is a picture of; None for files that are not ours."""
    try:
        if not path.is_file():
            return None
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get(_MARK)
    except Exception:  # of any type: not a picture of ours
        return None


def _is_any(path: Path, images: Collection[Path]) -> bool:
    return path.exists() and any(image.exists() and path.samefile(image) for image in images)
