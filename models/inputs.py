"""What a caller hands a detector, checked before anything is computed: one sentence for what does not fit.

Shapes and dtypes are always looked at; values only where they lie on the host, as looking at a GPU's would wait for
it. The stages of training, whose data were checked when they were read, do not come through here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srfgan.models.config import ModelConfig
from srfgan.models.errors import InputError, kind_of
from srfgan.models.instance_masks import MaskPatch, Polygons
from srfgan.models.structures import Target

IMAGES = "give a list of (3, H, W) tensors, RGB, uint8 or float in 0..255"
_NUMBERS = {
    *(
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
    ),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
}
_OVERSHOOT = 128.0
"""How far floats may leave 0..255, as bicubic resizing makes them."""
_SCALED = 4.0
"""Floats up to here are not pixels in 0..255 but for a black image: 0..1, or normalised already."""
_OUTSIDE = 1.0
"""How many pixels a box may leave its image, for rounding."""


def check_images(images: Any) -> None:
    """Refuse what is not a sequence of images, or a batch (N, 3, H, W), as `Detector.forward` takes them.

    Raises:
        InputError: says which image, what is wanted and what was given.
    """
    if isinstance(images, Tensor):
        if images.ndim != 4:
            one = images.ndim == 3 and images.shape[0] == 3
            wanted = "give a list, as model([image])" if one else IMAGES
            raise InputError(f"images is one tensor of shape {_shape(images)}; {wanted}")
    elif not isinstance(images, Sequence) or isinstance(images, str | bytes):
        raise InputError(f"images is {kind_of(images)}; {IMAGES}")
    for index, image in enumerate(images):
        _check_image(image, f"images[{index}]")


def _check_image(image: Any, name: str) -> None:
    if not isinstance(image, Tensor):
        raise InputError(f"{name} is {kind_of(image)}, not a tensor; {_as_tensor(image)}")
    if image.ndim != 3 or image.shape[0] != 3:
        raise InputError(f"{name} has shape {_shape(image)}, wanted is (3, H, W): {_as_rgb(image)}")
    if not image.numel():
        raise InputError(f"{name} has shape {_shape(image)}, which has no pixels")
    if image.dtype not in _NUMBERS or image.layout != torch.strided:
        raise InputError(
            f"{name} is of {image.dtype}, {image.layout}; wanted is RGB of torch.uint8 or torch.float32 in 0..255"
        )
    if image.dtype != torch.uint8 and _readable(image):
        _check_pixels(image, name)


def _as_tensor(image: Any) -> str:
    if isinstance(image, np.ndarray):
        last = image.ndim == 3 and image.shape[-1] in (3, 4)
        return f"torch.from_numpy(image){'.permute(2, 0, 1)' if last else ''} makes it one"
    if type(image).__module__.startswith("PIL."):
        return "torchvision.transforms.functional.pil_to_tensor(image.convert('RGB')) makes it one"
    return IMAGES


def _as_rgb(image: Tensor) -> str:
    if image.ndim == 3 and image.shape[0] == 4:
        return "image[:3] drops the fourth channel"
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        return "the channels come first, as image.permute(2, 0, 1)[:3] has them"
    if image.ndim == 2 or (image.ndim == 3 and 1 in (image.shape[0], image.shape[-1])):
        return "image.reshape(1, H, W).expand(3, H, W) makes RGB of a grey image"
    if image.ndim == 4:
        return "give the images of a batch one by one, or the batch itself as model(batch)"
    return IMAGES


def _check_pixels(image: Tensor, name: str) -> None:
    """Values that are no pixels are refused; ones that most likely have another scale get a warning."""
    # Not all operations know the unsigned integers.
    values = image.detach() if image.is_floating_point() else image.to(torch.float64)
    low, high = (float(value) for value in values.aminmax())
    if not np.isfinite((low, high)).all():
        raise InputError(f"{name} holds NaN or infinite values; wanted are pixels in 0..255")
    spare = _OVERSHOOT if image.is_floating_point() else 0.0
    if low < -spare or high > 255 + spare:
        raise InputError(f"{name} holds values from {low:g} to {high:g}; wanted are pixels in 0..255")
    if image.is_floating_point() and 0 < max(-low, high) <= _SCALED:
        warnings.warn(
            f"{name} holds values from {low:.3g} to {high:.3g}, as if scaled to 0..1 or normalised; a detector takes "
            "0..255 and normalises itself",
            stacklevel=5,
        )


def check_targets(targets: Any, images: Sequence[Tensor], config: ModelConfig) -> None:
    """Refuse what is not the ground truth of `images`, which are checked already.

    Raises:
        InputError: says which target, what is wanted and what was given.
    """
    if targets is None:
        raise InputError("a detector in training mode needs targets; call model.eval() to detect")
    if not isinstance(targets, Sequence) or isinstance(targets, str | bytes):
        raise InputError(
            f"targets is {kind_of(targets)}; give a list with one srfgan.models.Target for each image"
        )
    if not len(images):
        raise InputError("there is no image to train on: images is empty")
    if len(targets) != len(images):
        raise InputError(
            f"there are {len(images)} images and {len(targets)} targets; give one for each image"
        )
    for index, (target, image) in enumerate(zip(targets, images, strict=True)):
        _check_target(target, f"targets[{index}]", image.shape[-2:], config)


def _check_target(target: Any, name: str, size: Sequence[int], config: ModelConfig) -> None:
    if not isinstance(target, Target):
        counted = ", labels counted from 0 (torchvision's count from 1)" if isinstance(target, dict) else ""
        raise InputError(
            f"{name} is {kind_of(target)}; give srfgan.models.Target(boxes, labels, masks){counted}"
        )
    _check_tensor(target.boxes, f"{name}.boxes", "(R, 4)", torch.float32)
    _check_tensor(target.labels, f"{name}.labels", "(R,)", torch.int64)
    if target.boxes.ndim != 2 or target.boxes.shape[1] != 4:
        raise InputError(
            f"{name}.boxes has shape {_shape(target.boxes)}, wanted is (R, 4) xyxy; without objects (0, 4)"
        )
    if target.labels.shape != target.boxes.shape[:1]:
        raise InputError(
            f"{name}.labels has shape {_shape(target.labels)}, wanted is {_shape(target.boxes[:, 0])}: one for each box"
        )
    if _readable(target.boxes):
        _check_boxes(target.boxes, f"{name}.boxes", size)
    if _readable(target.labels) and len(target.labels):
        low, high = (int(value) for value in target.labels.aminmax())
        if low < 0 or high >= config.num_classes:
            raise InputError(
                f"{name}.labels holds {low if low < 0 else high}, wanted are 0 to {config.num_classes - 1}: the "
                f"detector has {config.num_classes} classes, counted from 0"
            )
    if config.has_masks:
        _check_masks(target.masks, f"{name}.masks", len(target.boxes), config.detector)


def _check_tensor(value: Any, name: str, shape: str, dtype: torch.dtype) -> None:
    if not isinstance(value, Tensor):
        raise InputError(f"{name} is {kind_of(value)}, wanted is a tensor {shape} of {dtype}")
    if value.dtype != dtype:
        raise InputError(f"{name} is of {value.dtype}, wanted is {dtype}")


def _check_boxes(boxes: Tensor, name: str, size: Sequence[int]) -> None:
    height, width = size
    corners = boxes.detach().numpy()
    finite = np.isfinite(corners).all(axis=1)
    ordered = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    limit = np.array([width, height, width, height]) + _OUTSIDE
    inside = ((corners >= -_OUTSIDE) & (corners <= limit)).all(axis=1)
    for good, wanted in (
        (finite, "wanted are finite numbers"),
        (ordered, "wanted is x0 y0 x1 y1 with x0 < x1 and y0 < y1"),
        (inside, f"which leaves its image of {height} x {width} (height x width); wanted are its pixels"),
    ):
        if not good.all():
            row = int(good.argmin())
            raise InputError(f"{name}[{row}] is {[round(x, 2) for x in corners[row].tolist()]}, {wanted}")


def _check_masks(masks: Any, name: str, count: int, detector: str) -> None:
    one_each = "a list with a srfgan.models.Polygons or srfgan.models.MaskPatch for each box"
    wanted = f"{detector} learns masks: give {one_each}"
    if masks is None and not count:
        return
    if not isinstance(masks, Sequence):
        raise InputError(f"{name} is {kind_of(masks)}; {wanted}{_as_patches(masks)}")
    if len(masks) != count:
        raise InputError(f"{name} has {len(masks)} masks and there are {count} boxes; {wanted}")
    for index, mask in enumerate(masks):
        _check_mask(mask, f"{name}[{index}]", wanted)


def _as_patches(masks: Any) -> str:
    """How to give bitmaps of the whole image."""
    if not isinstance(masks, Tensor | np.ndarray):
        return ""
    return ", as MaskPatch(bitmap, np.array([0.0, 0.0, width, height])) of each (height, width) uint8 array"


def _check_mask(mask: Any, name: str, wanted: str) -> None:
    if isinstance(mask, Polygons):
        for part in mask.parts:
            fits = isinstance(part, np.ndarray) and part.ndim == 2 and part.shape[1] == 2 and len(part) >= 3
            if not fits or not np.isfinite(part).all():
                raise InputError(
                    f"{name}.parts: wanted are arrays (V, 2) of x, y, finite, of three vertices or more"
                )
        if not mask.parts:
            raise InputError(f"{name} has no polygon; wanted is one or more")
    elif isinstance(mask, MaskPatch):
        pixels, span = mask.pixels, mask.span
        if (
            not isinstance(pixels, np.ndarray)
            or pixels.ndim != 2
            or pixels.dtype != np.uint8
            or not pixels.size
        ):
            raise InputError(f"{name}.pixels is {kind_of(pixels)}, wanted is a uint8 array (h, w) of 0 and 1")
        fits = isinstance(span, np.ndarray) and span.shape == (4,) and bool(np.isfinite(span).all())
        if not fits or not (span[2:] > span[:2]).all():
            raise InputError(
                f"{name}.span is {span!r}, wanted is an array of x0 y0 x1 y1 with x0 < x1 and y0 < y1"
            )
    else:
        raise InputError(f"{name} is {kind_of(mask)}; {wanted}{_as_patches(mask)}")


def check_weights(dtype: torch.dtype) -> None:
    """Refuse a detector that was converted as a whole, by `model.half()` for example.

    Raises:
        InputError: `dtype` of its weights is not float32.
    """
    if dtype != torch.float32:
        raise InputError(
            f"the detector's weights are of {dtype}, wanted are float32: call model.float(), and detect or train "
            "under torch.autocast for half precision"
        )


def _readable(x: Tensor) -> bool:
    """Whether the values can be looked at for nothing: on the host, and neither a stand-in's nor a compiler's."""
    plain = type(x).__torch_dispatch__ is Tensor.__torch_dispatch__
    return x.device.type == "cpu" and plain and not torch.compiler.is_compiling()


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))
