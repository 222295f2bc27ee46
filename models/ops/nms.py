"""Non-maximum suppression, alone and within classes."""

from __future__ import annotations

import torch
import torchvision.ops
from torch import Tensor


def nms(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Indices (K,) of the kept boxes (R, 4), best score first.

    torchvision promises an exported graph that two boxes at least are kept, so there two empty ones with
    a lower score than any go along: they overlap nothing, come out last and are dropped. It is not the lowest
    that there is, which OpenVINO takes for no score.
    """
    if torch.compiler.is_exporting():
        boxes = torch.cat([boxes, boxes.new_zeros(2, 4)])
        scores = torch.cat([scores, scores.new_full((2,), 0.75 * torch.finfo(scores.dtype).min)])
        kept: Tensor = torchvision.ops.nms(boxes, scores, iou)[:-2]
    else:
        kept = torchvision.ops.nms(boxes, scores, iou)
    return kept


def nms_within_classes(boxes: Tensor, scores: Tensor, classes: Tensor, iou: float) -> Tensor:
    """Indices (K,) of the kept boxes (R, 4), best score first; only boxes of equal class suppress another.

    On the CPU torchvision chooses its way by the number of boxes. Elsewhere, where that would copy a number to the
    device and wait, and while a graph is exported, the classes are moved apart and suppressed in one call.
    """
    if torch.compiler.is_exporting() or boxes.device.type != "cpu":
        extent = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).amax(dim=0) + 1
        return nms(boxes + (classes.to(boxes) * extent)[:, None], scores, iou)
    kept: Tensor = torchvision.ops.batched_nms(boxes, scores, classes, iou)
    return kept
