"""Images as people have them, file, PIL, numpy or tensor, as the one kind that detectors take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from srfgan.models.errors import InputError, kind_of
from srfgan_cli.data.images import MAX_PIXELS, read_image
from srfgan_cli.data.pixels import bit_depth, orientation, to_rgb, turned

WANTED = (
    "give a file's path, a PIL image, a numpy array (H, W, 3) uint8 RGB, or a tensor (3, H, W) RGB in 0..255"
)


def as_list(images: Any) -> list[Any]:
    """One image, or several, as a list; nothing is read."""
    if isinstance(images, np.ndarray | Tensor):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, str | bytes | Path | Image.Image) or not isinstance(images, Iterable):
        return [images]
    return list(images)


def as_pixels(image: Any, name: str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """One image as (3, H, W) RGB, uint8, on the CPU; floats are rounded.

    Args:
        image: a path (`read_image` says which kinds); a PIL image, which is read as its file would be; a numpy array,
            (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey, uint8 or float in 0..255 (OpenCV's arrays are BGR: give
            `array[..., ::-1]`); or a tensor as `Detector.forward` takes.
        name: how messages call it.
        max_pixels: larger files are refused.

    Raises:
        InputError: something else, a file that cannot be read, or numbers that are no pixels.
    """
    if isinstance(image, str | Path):
        return read_image(image, max_pixels=max_pixels)
    if isinstance(image, Image.Image):
        image = _of_pil(image, name)
    if isinstance(image, np.ndarray):
        image = _of_array(image, name)
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise InputError(f"{name} is {_described(image)}; {WANTED}")
    if image.dtype == torch.uint8:
        return image.cpu()
    pixels = image.detach().cpu().to(torch.float32)
    low, high = (float(value) for value in pixels.aminmax())
    if not (0 <= low <= high <= 255):
        raise InputError(f"{name} holds values from {low:g} to {high:g}; wanted are pixels in 0..255")
    if 0 < high <= 1:
        raise InputError(
            f"{name} holds values up to {high:g}, as if scaled to 0..1; wanted are pixels in 0..255"
        )
    return pixels.round().to(torch.uint8)


def _of_pil(image: Image.Image, name: str) -> np.ndarray:
    """What `read_image` makes of the image's file; floats as they are. The image itself stays as it is."""
    if image.mode == "F":
        return np.asarray(image)
    if image.mode == "I" and image.format is None:
        raise InputError(f"{name} is a PIL image of 32-bit integers; scale it to 8 bits, 0..255")
    try:
        depth = bit_depth(image)
        image.load()
        turn, _ = orientation(image)  # not before: Pillow makes a TIFF upright when it loads it
        # Its tags say how the integers of a TIFF are meant.
        pixels, _ = to_rgb(image if image.mode.startswith("I") else image.copy(), depth)
    except Exception as error:  # of any type: Pillow's decoders meet what the file's author wrote
        raise InputError(f"{name} is a PIL image that cannot be read ({error})") from None
    return turned(pixels, turn)


def _of_array(array: np.ndarray, name: str) -> Tensor:
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4) or array.dtype.kind not in "uif":
        raise InputError(f"{name} is {_described(array)}; {WANTED}")
    if array.dtype.kind in "ui" and array.dtype != np.uint8:
        raise InputError(f"{name} is a numpy array of {array.dtype}; scale it to uint8, 0..255")
    # A copy: what another library made may be turned round, not be writable, or be in another machine's byte order.
    native = array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array[..., :3].transpose(2, 0, 1), native))


def _described(image: Any) -> str:
    if isinstance(image, np.ndarray | Tensor):
        kind = "a numpy array" if isinstance(image, np.ndarray) else "a tensor"
        return f"{kind} {tuple(image.shape)} of {image.dtype}"
    return kind_of(image)
