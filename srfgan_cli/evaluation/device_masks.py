"""Masks of a GPU's detections as COCO's RLE: pasted there, and only the ends of their runs copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from srfgan.models.ops.masks import paste_masks
from srfgan.models.ops.transfer import to_device
from srfgan_cli.data.rle import compressed

_PIXELS_AT_ONCE = 2**27
"""1 byte each, three times."""


def encode_pasted(probs: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The compressed RLE of each mask pasted into the image, {"size": [H, W], "counts": str}.

    A host takes 0.6 ms for one mask, and the GPU would wait; here a whole image's take it a few.

    Args:
        probs: (R, M, M) in 0..1, on the device.
        boxes: (R, 4) float32 xyxy in the image's pixels, on the host.
        size: the image's height and width.
    """
    at_once = max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))
    placed = to_device(boxes, probs.device)
    return [
        code
        for part, where in zip(probs.split(at_once), placed.split(at_once), strict=True)
        for code in encode_masks(paste_masks(part, where, size))
    ]


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """The compressed RLE of each of `masks`, (R, H, W) bool on any device; one wait for all of them."""
    count, height, width = masks.shape
    if count == 0:
        return []
    columns = masks.transpose(1, 2).flatten(1)
    changed = columns.clone()
    changed[:, 1:] ^= columns[:, :-1]
    ends = torch.nonzero(changed).cpu().numpy()
    of_mask = np.split(ends[:, 1], np.cumsum(np.bincount(ends[:, 0], minlength=count))[:-1])
    runs = [np.diff(places, prepend=0, append=height * width) for places in of_mask]
    return [compressed(part, (height, width)) for part in runs]
