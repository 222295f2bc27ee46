"""What in an image speaks for a detection: Grad-CAM on the pyramid of any detector.

Grad-CAM (Selvaraju et al., equations 1 and 2) weighs the maps by the means of their gradients over the whole image. A
detector's score rests on one place, and the mean forgets which: all that looks alike would light up. Here each
gradient weighs the pixel it belongs to (HiResCAM, Draelos and Carin), so that a map is 0 wherever the score does not
depend on the pyramid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from srfgan.models.detector import Detector
from srfgan.models.ops.boxes import Size, box_iou
from srfgan.models.structures import Detections
from srfgan_cli.visualization.feature_maps import as_it_was, pyramids

SAME_FROM = 0.5
"""IoU from which detections of one class by two methods are of the same object."""


@dataclass(frozen=True)
class View:
    """One image as a detector sees it.

    Attributes:
        pyramid: (1, C, h, w) of each level.
        found: detections in pixels of the image that was given; their scores know how they follow from `pyramid`.
        size: the image's height and width.
        padded: the same of the batch that it was in.
    """

    pyramid: dict[str, Tensor]
    found: Detections
    size: Size
    padded: Size


@dataclass(frozen=True)
class Evidence:
    """Where the evidence for one detection is.

    Attributes:
        box: (4,) of the detection.
        score: in 0..1.
        map: (H, W) float32, not negative: evidence per pixel of the image, in log-odds of the score.
        levels: the share of each pyramid level in it, finest first.
    """

    box: Tensor
    score: float
    map: Tensor
    levels: dict[str, float]

    @property
    def inside(self) -> float:
        """The share of the evidence that lies in the box."""
        x0, y0, x1, y1 = self.box.round().int().tolist()
        return float(self.map[y0:y1, x0:x1].sum() / self.map.sum().clamp(min=1e-12))


def views(model: Detector, image: Tensor, upsamplers: Mapping[str, nn.Module]) -> dict[str, View]:
    """What a detector finds with each upsampler in its neck. The detector is left as it was.

    Args:
        model: any detector.
        image: (3, H, W) RGB uint8 or float 0..255, at the size that the detector is to see.
        upsamplers: by method.
    """
    seen = {}
    with as_it_was(model):
        with torch.no_grad():
            batch, (size,) = model.preprocess([image])
            by_method = dict(pyramids(model, batch, upsamplers))
        for method, pyramid in by_method.items():
            leaves = {level: x.requires_grad_() for level, x in pyramid.items()}
            (found,) = model.detect_from_pyramid(leaves, [size])
            seen[method] = View(leaves, found, size, (batch.shape[-2], batch.shape[-1]))
    return seen


def best_detection(seen: Mapping[str, View], label: int | None) -> tuple[str, int] | None:
    """The method and index of the best detection of all methods, of class `label` if given; None without any."""
    scores = {
        (method, index): score
        for method, view in seen.items()
        for index, (score, of) in enumerate(
            zip(view.found.scores.tolist(), view.found.labels.tolist(), strict=True)
        )
        if label in (None, of)
    }
    return max(scores, key=lambda each: scores[each], default=None)


def same_object(view: View, box: Tensor, label: int) -> int | None:
    """The index of a view's best detection of class `label` at `box` (4,); None where it has none there."""
    found = view.found
    there = (box_iou(box[None], found.boxes.detach())[0] >= SAME_FROM) & (found.labels == label)
    return int(torch.where(there, found.scores, -1.0).argmax()) if there.any() else None


def evidence(view: View, index: int, level: str | None = None) -> Evidence:
    """Where the evidence for a detection is, on all levels together or on one.

    It is the positive part of gradient times map, summed over channels and levels. The gradient is that of the score's
    log-odds: the score's own vanishes for sure detections, which would look as if they rested on nothing.
    """
    parts = contributions(view, index)
    chosen = parts if level is None else {level: parts[level]}
    whole = sum(_spread(part, view) for part in chosen.values())
    assert isinstance(whole, Tensor)
    strengths = {name: float(part.clamp(min=0).sum()) for name, part in parts.items()}
    total = max(sum(strengths.values()), 1e-12)
    return Evidence(
        box=view.found.boxes[index].detach().cpu(),
        score=float(view.found.scores[index].detach()),
        map=whole.clamp(min=0).cpu(),
        levels={name: strength / total for name, strength in strengths.items()},
    )


def contributions(view: View, index: int) -> dict[str, Tensor]:
    """(h, w) of each level: what its places add to the log-odds, to first order."""
    score = view.found.scores[index]
    gradients = torch.autograd.grad(score, list(view.pyramid.values()), retain_graph=True, allow_unused=True)
    slope = (score * (1 - score)).detach().clamp(min=torch.finfo(score.dtype).tiny)
    return {
        level: x.new_zeros(x.shape[-2:]) if gradient is None else (x * gradient).detach()[0].sum(0) / slope
        for (level, x), gradient in zip(view.pyramid.items(), gradients, strict=True)
    }


def _spread(part: Tensor, view: View) -> Tensor:
    """A level's contributions (h, w) over the pixels of the image, (H, W), of the same sum but for the padding."""
    share = part.numel() / (view.padded[0] * view.padded[1])
    full = functional.interpolate(part[None, None], view.padded, mode="bilinear", align_corners=False)[0, 0]
    return full[: view.size[0], : view.size[1]] * share
