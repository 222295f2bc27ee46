"""From what Pillow decodes to upright RGB: modes, bit depths and EXIF orientations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageCms
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    TiffImageFile,
)

_SIXTEEN = 65535
_BEFORE_PIXELS = 2**20
"""Bytes of what a JPEG says before its pixels, which take less than they do in memory."""

_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, 3),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}
"""What makes (H, W, 3) pixels upright, by EXIF orientation; 1 is upright already."""
_BACK = {6: 8, 8: 6}
"""The orientation that undoes another; the others undo themselves."""


class UnknownRangeError(ValueError):
    """Pixels of which nobody can say what black and white are."""


@dataclass(frozen=True)
class Levels:
    """Which values of a file occur, of those that its depth has.

    Attributes:
        low: the darkest.
        high: the brightest.
        full: the brightest that the depth has, such as 65535.
    """

    low: int
    high: int
    full: int

    @property
    def sliver(self) -> bool:
        """Whether less than a quarter of the depth is used, as by 12-bit values in 16 bits. Blank images are not."""
        return 0 < 4 * (self.high - self.low) < self.full


def bit_depth(image: Image.Image) -> int:
    """Bits of each channel in the file of an opened image that is not decoded yet: 8 for 8 and less."""
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(BITSPERSAMPLE, 8)
        return int(max(8, *(bits if isinstance(bits, tuple) else (bits,))))
    tiles = getattr(image, "tile", [])
    stored = str(tiles[0][3]) if tiles else ""
    return 16 if image.mode.startswith("I") or ";16" in stored else 8


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an opened image's pixels as its file has them, whatever its EXIF orientation.

    Pillow's own `size` of a TIFF is the upright picture's, in some versions from the beginning.
    """
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[IMAGELENGTH]), int(image.tag_v2[IMAGEWIDTH])
    return image.height, image.width


def orientation(image: Image.Image) -> tuple[int, str]:
    """The EXIF orientation, 1 to 8, and why it could not be read; 1 is what counts then."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        value = int(value)
    except Exception as error:  # of any type: Pillow parses what the file's author wrote
        reason = str(error) or type(error).__name__
        return 1, f"the orientation in its EXIF data cannot be read ({reason}); used as it is stored"
    return (value if value in _TURNS else 1), ""


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, 3) made upright, contiguous; the same array where they are."""
    # A copy in any case: numpy calls a single pixel contiguous with negative strides too, which torch refuses.
    return _TURNS[orientation](pixels).copy() if orientation in _TURNS else pixels


def to_rgb(image: Image.Image, depth: int) -> tuple[np.ndarray, Levels | None]:
    """The pixels of an opened image as its file has them, (H, W, 3) uint8, and of more than 8 bits which levels occur.

    Args:
        image: of any of Pillow's modes but `F`, not decoded yet.
        depth: what `bit_depth` said of it.

    Raises:
        UnknownRangeError: floating-point pixels, or integers beyond 16 bits.
        Exception: of any type, from Pillow: what it cannot decode.
    """
    quick = _from_jpeg(image)
    if quick is not None:
        return quick, None
    turn, _ = orientation(image)
    image.load()
    pixels, levels = _loaded(image, depth)
    # Pillow makes a TIFF upright, and takes its orientation away, when it loads it; no other file.
    loaded_upright = turn != orientation(image)[0]
    return (turned(pixels, _BACK.get(turn, turn)) if loaded_upright else pixels), levels


def _loaded(image: Image.Image, depth: int) -> tuple[np.ndarray, Levels | None]:
    if image.mode == "F":
        raise UnknownRangeError("floating-point pixels have no known range; save the image with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_integers(image, depth)
    if image.mode == "LAB":
        image = _from_lab(image)
    if image.mode != "RGB":
        # What transparency a palette or a colour has is not used, and would make Pillow warn.
        image.info.pop("transparency", None)
        image = image.convert("RGB")
    pixels = np.array(image)
    if depth == 8:
        return pixels, None
    # Pillow has taken the upper 8 of 16 bits.
    return pixels, Levels(int(pixels.min()) * 257, int(pixels.max()) * 257, _SIXTEEN)


def _from_jpeg(image: Image.Image) -> np.ndarray | None:
    """Pillow's pixels of a JPEG in three quarters of its time; None of what is no sound JPEG in colour: for Pillow."""
    if image.format != "JPEG" or image.mode != "RGB":
        return None
    stream: IO[bytes] = image.fp  # type: ignore[attr-defined]
    stream.seek(0)
    content = stream.read(_BEFORE_PIXELS + 4 * image.width * image.height)  # not all that may be behind it
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:  # of anything that is odd: what Pillow makes of it counts, or says what is wrong
        return None
    return pixels


def _from_integers(image: Image.Image, depth: int) -> tuple[np.ndarray, Levels]:
    """One rule whatever the image's own maximum, so that the images of a data set stay comparable."""
    grey = np.asarray(image)
    full = 2**depth - 1 if depth < 16 else _SIXTEEN
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > full:
        raise UnknownRangeError(
            f"integer pixels from {low} to {high} have no known range; save the image with 8 or 16 bits"
        )
    scaled = ((grey.astype(np.uint32) * 255 + full // 2) // full).astype(np.uint8)
    # Pillow turns TIFFs in which 0 is white around, but not those of 16 bits.
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:
        scaled = 255 - scaled
    return np.repeat(scaled[:, :, None], 3, axis=2), Levels(low, high, full)


def _from_lab(image: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "LAB", "RGB"))
    assert converted is not None
    return converted
