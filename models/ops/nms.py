"""Non-maximum suppression within classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms


def nms_within_classes(boxes: Tensor, scores: Tensor, classes: Tensor, iou: float) -> Tensor:
    """Indices (K,) of the kept boxes (R, 4), best score first; only boxes of equal class suppress another.

    While a graph is exported the classes are moved apart and suppressed in one call, because the eager
    version chooses its way by the number of boxes.
    """
    if torch.compiler.is_exporting():
        extent = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).amax() + 1
        return nms(boxes + (classes.to(boxes) * extent)[:, None], scores, iou)
    return batched_nms(boxes, scores, classes, iou)
