"""Image files: one function that reads every common kind as RGB, and says clearly which it cannot."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from models.errors import InputError


class ImageError(InputError):
    """An image file that cannot be used; `kind` is the heading under which a check lists it."""

    def __init__(self, message: str, kind: str = "unreadable image") -> None:
        super().__init__(message)
        self.kind = kind


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""What a folder's files must end in to be taken for images."""

_TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> Tensor:
    """Read an image file.

    Greyscale, palette and CMYK become RGB; alpha is dropped (the stored colours count, as in detectron2);
    16-bit values are divided by 257, so that 65535 becomes 255. The rotation in the EXIF data is applied. Where
    `size` is given and only the unrotated pixels have it, the annotations were made on those, and the
    rotation is not applied.

    Args:
        path: the file.
        size: (height, width) that the data set's json states, if known.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        ImageError: missing, empty, truncated, no image, or of another size than `size`.
    """
    path = Path(path)
    try:
        with Image.open(path) as file:
            file.load()
            image = _oriented(file, size)
            pixels = _rgb(image, path)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such image file", "missing image file") from None
    except UnidentifiedImageError:
        raise _unidentified(path) from None
    except InputError:
        raise
    except _BROKEN as error:
        raise ImageError(f"{path}: the image cannot be read ({error}); replace the file") from None
    if size is not None and pixels.shape[:2] != tuple(size):
        raise ImageError(
            f"{path}: the image is {pixels.shape[1]}x{pixels.shape[0]} pixels, but its json says"
            f" {size[1]}x{size[0]}; its annotations would be in the wrong place",
            "image size differs from the json",
        )
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of the image that `read_image` gives, from the file's header alone.

    Raises:
        ImageError: missing, empty, or no image.
    """
    try:
        with Image.open(path) as file:
            width, height = file.size
            turned = file.getexif().get(ExifTags.Base.Orientation) in _TURNED
    except FileNotFoundError:
        raise ImageError(f"{path}: no such image file", "missing image file") from None
    except UnidentifiedImageError:
        raise _unidentified(path) from None
    except _BROKEN as error:
        raise ImageError(f"{path}: the image cannot be read ({error}); replace the file") from None
    return (width, height) if turned else (height, width)


def list_images(folder: Path) -> list[Path]:
    """The image files in a folder, by name; those in folders below are left out.

    Raises:
        InputError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    found = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise InputError(f"{folder}: the folder holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return found


def _oriented(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    turned = ImageOps.exif_transpose(image)
    wanted = None if size is None else (size[1], size[0])
    if wanted is not None and turned.size != wanted and image.size == wanted:
        return image
    return turned


def _rgb(image: Image.Image, path: Path) -> np.ndarray:
    """(H, W, 3) uint8, contiguous and writable."""
    if image.mode == "F":
        raise ImageError(
            f"{path}: floating-point pixels have no known range; save the image with 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        # Mode "I" holds 16-bit files in older Pillow, but 8-bit values from a few writers too.
        if image.mode != "I" or grey.max(initial=0) > 255:
            grey = (grey + 128) // 257
        return np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"))


def _unidentified(path: Path) -> ImageError:
    if path.stat().st_size == 0:
        return ImageError(f"{path}: the image file is empty; replace it", "empty image file")
    return ImageError(f"{path}: not an image, or of a kind that Pillow does not know; replace the file")
