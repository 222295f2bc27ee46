"""Ground truth in the form of detections, to be drawn beside them."""

from __future__ import annotations

import torch

from srfgan.models.structures import Detections, Target
from srfgan_cli.data.drawn import whole_mask


def as_detections(target: Target, size: tuple[int, int]) -> Detections:
    """The target of one image as detections of score 1, masks as pixels.

    Args:
        target: ground truth in the image's pixels.
        size: the image's height and width.
    """
    masks = None
    if target.masks is not None:
        pixels = [whole_mask(mask, size) for mask in target.masks]
        masks = torch.stack(pixels) if pixels else torch.zeros(0, *size, dtype=torch.bool)
    return Detections(target.boxes, torch.ones(len(target.boxes)), target.labels, masks)
