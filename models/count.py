"""Counts what a detector costs: parameters and multiply-accumulates, on the meta device in about a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from srfgan.models.config import ModelConfig
from srfgan.models.cost import HEIGHT, WIDTH, Cost
from srfgan.models.factory import build_detector


def cost_of(config: ModelConfig, height: int = HEIGHT, width: int = WIDTH) -> Cost:
    """The cost of a detector on an image of `height` x `width` pixels; nothing is computed.

    Counted are convolutions and matrix products, attention's included; not RoIAlign, interpolation, norms, NMS
    and the pasting of masks. Where the amount of work depends on what is seen, the most that the config allows is
    counted: every candidate passes the threshold and NMS, so that the box heads get `rpn.post_nms_topk_test` boxes
    (if the pyramid has as many places) and the mask heads `inference.detections_per_image`.
    """
    with torch.device("meta"):
        # The counter looks for the history of whatever needs a gradient, which nothing here shall have.
        detector = build_detector(config).eval().requires_grad_(False)
        image = torch.empty(3, height, width, dtype=torch.uint8)
    with torch.no_grad(), NothingIsDropped():
        batch, sizes = detector.preprocess([image])
        with FlopCounterMode(display=False) as backbone:
            maps = detector.backbone(batch)
        with FlopCounterMode(display=False) as neck:
            pyramid = detector.neck(maps)
        with FlopCounterMode(display=False) as head:
            detector.detect_from_pyramid(pyramid, sizes)
    # The counter counts a multiplication and an addition as two.
    counts = [counter.get_total_flops() // 2 for counter in (backbone, neck, head)]
    return Cost(sum(parameter.numel() for parameter in detector.parameters()), *counts)


class NothingIsDropped(TorchDispatchMode):
    """Gives operations whose output's size depends on values the largest size, as tensors on meta have no values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.ops.aten.nonzero.default:
            return args[0].new_empty((args[0].numel(), args[0].dim()), dtype=torch.int64)
        if func is torch.ops.torchvision.nms.default:
            return args[0].new_empty(len(args[0]), dtype=torch.int64)
        if func is torch.ops.aten.index.Tensor:
            args = (args[0], [index for given in args[1] for index in _without_masks(given)], *args[2:])
        return func(*args, **(kwargs or {}))


def _without_masks(index: Tensor | None) -> list[Tensor | None]:
    """The integer indices that a boolean one stands for where it is true everywhere."""
    if index is None or index.dtype != torch.bool:
        return [index]
    return [index.new_empty(index.numel(), dtype=torch.int64)] * index.dim()
