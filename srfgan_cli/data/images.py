"""Image files: one function that reads every common kind as RGB, and says clearly which it cannot."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from srfgan.models.errors import InputError
from srfgan_cli.data.pixels import (
    Levels,
    UnknownRangeError,
    bit_depth,
    orientation,
    stored_size,
    to_rgb,
    turned,
)
from srfgan_cli.screen.console import stderr

if TYPE_CHECKING:
    from torch import Tensor


class ImageError(InputError):
    """An image file that cannot be used; `kind` is the heading under which a check lists it."""

    def __init__(self, message: str, kind: str = "unreadable image") -> None:
        super().__init__(message)
        self.kind = kind


FORMATS = (
    *("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "JPEG2000", "MPO", "PPM"),
    *("DIB", "PCX", "QOI", "SGI", "TGA"),
)
"""Pillow's names of the formats that are read: those of pixels. EPS would run Ghostscript, others need plug-ins."""

MAX_PIXELS = 100_000_000
"""Larger images are refused by default: reading takes some ten bytes of memory a pixel, in every loading process."""
ANY_SIZE = 2**62
"""As `max_pixels`: more than an image may have, for what decodes none."""

MISSING = "missing image file"

_NO_SIGNATURE = ("TGA",)
"""Formats that are only known by a file's suffix: tried on any file, they would take garbage for an image."""
_TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""

# `_checked_size` decides what is too large, by a limit that can be raised. Pillow's own would warn below it or
# stop above it. Its other warnings are about tags that nothing here uses.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True)
class Decoded:
    """An image file's pixels, and what a check says of them.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, contiguous and writable.
        levels: of files with more than 8 bits, which of their values occur; None for the others.
        frames: how many pictures the file holds; the first is used. 1 unless asked for.
        unturned: why the orientation in its EXIF data could not be read; empty where it could.
    """

    pixels: np.ndarray
    levels: Levels | None
    frames: int
    unturned: str


def read_image(
    path: str | Path,
    size: tuple[int, int] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    tell_of_others: bool = False,
) -> Tensor:
    """Read an image file; of an animation or of several pages, the first.

    Greyscale, palette, CMYK and Lab become RGB; alpha is dropped (the stored colours count, as in detectron2).
    Integers of more than 8 bits are scaled by their file's depth, whatever values occur: of 16 bits, 65535
    becomes 255; 32-bit files count as 16-bit ones. The rotation in the EXIF data is applied. Where `size`
    is given and only the unrotated pixels have it, the annotations were made on those, and the rotation is
    not applied. EXIF data that cannot be read costs the rotation and a warning, not the image.

    Args:
        path: the file.
        size: (height, width) that the data set's json states, if known.
        max_pixels: larger images are refused before they are decoded; not used where `size` is given, as
            images of other sizes are.
        tell_of_others: say on stderr that a file holds more pictures than the one that is read.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        ImageError: missing, no regular file, empty, truncated, no image, too large, or of another size than `size`.
    """
    import torch  # annotations, and files that are only checked, do without

    image = decode(Path(path), size, max_pixels=max_pixels, count_frames=tell_of_others)
    if image.unturned:
        _warn_once(f"{path}: {image.unturned}")
    if image.frames > 1:
        _warn_once(f"{path}: the file holds {image.frames} pictures; only the first is looked at")
    return torch.from_numpy(image.pixels).permute(2, 0, 1)


def decode(
    path: Path,
    size: tuple[int, int] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    count_frames: bool = False,
) -> Decoded:
    """What `read_image` reads, with what a check says of it.

    Args:
        path: the file.
        size: as for `read_image`.
        max_pixels: as for `read_image`.
        count_frames: walk through the whole file for `frames`.

    Raises:
        ImageError: as `read_image`.
    """
    with _opened(path, size, max_pixels) as file:
        depth = bit_depth(file)
        turn, unturned = orientation(file)
        pixels, levels = to_rgb(file, depth)
        frames = _frames(file) if count_frames else 1
    upright = turned(pixels, turn)
    if size is None or upright.shape[:2] == tuple(size) or pixels.shape[:2] != tuple(size):
        pixels = upright
    if size is not None:
        _check_size(path, (pixels.shape[0], pixels.shape[1]), size)
    return Decoded(pixels, levels, frames, unturned)


def read_size(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width of the image that `read_image` gives, mostly from the file's header alone.

    Raises:
        ImageError: missing, no regular file, empty, no image, or too large.
    """
    with _opened(path, None, max_pixels) as file:
        height, width = stored_size(file)
        turn, _ = orientation(file)
    return (width, height) if turn in _TURNED else (height, width)


def left_unturned(path: Path, size: tuple[int, int]) -> int:
    """The EXIF orientation, 5 to 8, that `read_image` leaves alone as `size` counts unrotated pixels; 1 for none.

    Args:
        path: the file.
        size: (height, width) that the data set's json states.

    Raises:
        ImageError: as `read_size`.
    """
    with _opened(path, None, max_pixels=ANY_SIZE) as file:
        turn, _ = orientation(file)
        height, width = stored_size(file)
    return turn if turn in _TURNED and size == (height, width) != (width, height) else 1


def list_images(folder: Path) -> list[Path]:
    """The image files in a folder, by name; those in folders below are left out, and hidden ones.

    Raises:
        InputError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    found = sorted(file for file in folder.iterdir() if is_image_name(file.name))
    if not found:
        raise InputError(f"{folder}: the folder holds no image ({', '.join(sorted(image_suffixes()))})")
    return found


def file_sizes(folder: Path) -> list[tuple[str, int]]:
    """Name and bytes of each image file in a folder, by which labels that were made of them are known again.

    Raises:
        InputError: as `list_images`.
    """
    return [(path.name, path.stat().st_size) for path in list_images(folder)]


def is_image_name(name: str) -> bool:
    """Whether a file of a folder is taken for an image, by its suffix."""
    return not name.startswith(".") and Path(name).suffix.lower() in image_suffixes()


@cache
def image_suffixes() -> frozenset[str]:
    """What the files of all formats end in, in lower case."""
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in FORMATS)


@cache
def _formats(suffix: str) -> tuple[str, ...]:
    """The formats to try on a file, of those that this Pillow knows."""
    own = Image.registered_extensions().get(suffix)
    wanted = [name for name in FORMATS if name not in _NO_SIGNATURE or name == own]
    return tuple(name for name in wanted if name in Image.OPEN)


@contextmanager
def _opened(path: Path, size: tuple[int, int] | None, max_pixels: int) -> Iterator[Image.Image]:
    """The file's first picture, not decoded yet and not too large; whatever fails inside is the file's fault."""
    try:
        _check_regular(path)
        with path.open("rb") as stream, Image.open(stream, formats=_formats(path.suffix.lower())) as image:
            _check_header(path, image.size, size, max_pixels)
            yield image
    except InputError:
        raise
    except UnknownRangeError as error:
        raise ImageError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{path}: not an image, or of a kind that Pillow does not know; replace the file"
        ) from None
    except MemoryError:
        raise ImageError(f"{path}: the image needs more memory than there is", "image too large") from None
    except Exception as error:  # of any type: Pillow's decoders meet what the file's author wrote
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{path}: the image cannot be read ({reason}); replace the file") from None


def _check_regular(path: Path) -> None:
    """Before opening: a pipe would wait for ever for its other end."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        link = ": it is a link to a file that is not there" if path.is_symlink() else ""
        raise ImageError(f"{path}: no such image file{link}", MISSING) from None
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path}: {_what_else(status.st_mode)}, not an image file", "no file")
    if status.st_size == 0:
        raise ImageError(f"{path}: the image file is empty; replace it", "empty image file")


def _what_else(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")


def _check_header(path: Path, stored: tuple[int, int], size: tuple[int, int] | None, max_pixels: int) -> None:
    """Compare the (width, height) of a file's header with what is wanted, before anything is decoded."""
    if size is not None and stored != tuple(size):
        _check_size(path, (stored[1], stored[0]), size)
    elif size is None and stored[0] * stored[1] > max_pixels:
        raise ImageError(
            f"{path}: the image is {stored[0]}x{stored[1]} pixels, more than {max_pixels:,} in all;"
            f" --set data.max_pixels={stored[0] * stored[1]} allows it",
            "image too large",
        )


def _check_size(path: Path, found: tuple[int, int], size: tuple[int, int]) -> None:
    if found != tuple(size):
        raise ImageError(
            f"{path}: the image is {found[1]}x{found[0]} pixels, but its annotations say"
            f" {size[1]}x{size[0]} and would be in the wrong place",
            "image size differs from the annotations",
        )


def _frames(image: Image.Image) -> int:
    # The JPEG of a camera may hold a preview or the like beside the picture: that is no animation.
    if image.format == "MPO":
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # what is broken behind the first picture is not used
        return 1


@cache
def _warn_once(text: str) -> None:
    stderr.print(text, style="yellow")
