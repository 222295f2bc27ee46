"""Detectors with random weights that find about as much as trained ones do, so that they can be timed.

Random weights find nothing or everything: the last layers are scaled to outputs as spread as trained ones'.
"""

import torch
from torch import nn

from srfgan.models import build_detector
from srfgan.models.config import ModelConfig, RetinaNetConfig, TwoStageConfig
from srfgan.models.config.fcos import FCOSBoxesConfig
from srfgan.models.cost import HEIGHT, WIDTH


def spread_detector(config: ModelConfig) -> nn.Module:
    """A detector with random weights, which finds up to about a hundred objects in `picture()`."""
    torch.manual_seed(0)
    model = build_detector(config).eval()
    with torch.no_grad():
        for part, module in model.backbone.body.named_modules():
            if part.endswith("conv3"):
                # Frozen norms that were never trained let the features grow from block to block.
                module.norm.weight.fill_(0.2)
        batch, sizes = model.preprocess([picture()])
        if config.pixel.std == [1.0, 1.0, 1.0]:
            model.backbone.body["conv1"].weight.div_(100)
        pyramid = model.pyramid(batch)
        match config:
            case RetinaNetConfig():
                spread_dense(model.head.subnets, pyramid)
            case FCOSBoxesConfig():
                spread_fcos(model.head.fcos, pyramid)
            case TwoStageConfig():
                spread_two_stage(model.head, pyramid, sizes)
            # Sparse R-CNN always gives its hundred best.
    return model


def spread_dense(subnets: nn.Module, pyramid: dict) -> None:
    """A few thousand pairs of anchor and class above the threshold."""
    logits, deltas = (torch.cat([x.flatten() for x in maps]) for maps in subnets(pyramid))
    subnets.classes.weight.mul_(0.45 / logits.std())
    subnets.deltas.weight.mul_(0.2 / deltas.std())


def spread_fcos(towers: nn.Module, pyramid: dict) -> None:
    """A few thousand pairs of place and class above the threshold, and boxes of a few strides."""
    logits = torch.cat([x.flatten() for x in towers(pyramid).logits])
    towers.classes.weight.mul_(0.45 / logits.std())
    towers.sides.bias.fill_(2.0)


def spread_two_stage(head: nn.Module, pyramid: dict, sizes: list) -> None:
    """Distinct proposals, and a few hundred pairs of box and class above the threshold."""
    logits, deltas = (torch.cat([x.flatten() for x in maps]) for maps in head.rpn(pyramid))
    head.rpn.objectness.weight.mul_(2 / logits.std())
    head.rpn.deltas.weight.mul_(0.2 / deltas.std())
    proposals, _ = head.rpn.propose(pyramid, sizes)
    maps = {level: pyramid[level] for level in ("p2", "p3", "p4", "p5")}
    for box in getattr(head.box, "stages", [head.box]):
        logits, deltas = box(maps, proposals)
        box.classes.weight.mul_(2 / logits.std())
        box.classes.bias[-1] = 8
        box.deltas.weight.mul_(1 / deltas.std())


def picture(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> torch.Tensor:
    """(3, height, width) uint8 RGB: smooth noise, so that scores vary over the image."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 32, width // 32, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth[0] * 255).to(torch.uint8)
