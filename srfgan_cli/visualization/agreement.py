"""What two detectors find in one image, and what one of them finds and the other misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srfgan.models.ops.boxes import box_area, box_iou
from srfgan.models.structures import Detections
from srfgan_cli.evaluation.matching import choose

SAME_FROM = 0.5
"""IoU from which a detection and an object of its class are one, as in COCO's AP50."""


@dataclass(frozen=True)
class Truth:
    """The ground truth of one image.

    Attributes:
        objects: of score 1.
        crowds: (C, 4) boxes of regions in which objects are not told apart, and whose detections count neither way.
        crowd_labels: (C,) int64.
    """

    objects: Detections
    crowds: Tensor
    crowd_labels: Tensor


@dataclass(frozen=True)
class Finder:
    """One of the two detectors.

    Attributes:
        found: its detections, best first.
        right: (R,) bool, those that are an object; without truth all.
        alone: (R,) bool, those of them whose object the other misses.
        missed: (M, 4) boxes of the objects that only the other finds.
    """

    found: Detections
    right: Tensor
    alone: Tensor
    missed: Tensor


@dataclass(frozen=True)
class Agreement:
    """Two detectors' findings in one image.

    Attributes:
        finders: the two.
        objects: those of the truth; without one, those that either finds.
        found_by: (2, R) bool, which of the two finds each object.
    """

    finders: tuple[Finder, Finder]
    objects: Detections
    found_by: Tensor

    @property
    def counts(self) -> dict[str, int]:
        """How many objects `both`, only the `first`, only the `second`, and `neither` finds."""
        first, second = self.found_by
        return {
            "both": int((first & second).sum()),
            "first": int((first & ~second).sum()),
            "second": int((second & ~first).sum()),
            "neither": int((~first & ~second).sum()),
        }


def agreement(first: Detections, second: Detections, truth: Truth | None) -> Agreement:
    """Match two detectors' findings with the truth, or with each other where there is none.

    As COCO does it, the best detection is the first to choose, of the objects of its class that are left, the one
    that it overlaps most.

    Args:
        first: best first, in pixels of the image; those that are to be drawn.
        second: as `first`.
        truth: in pixels of the image.
    """
    pair = [first, second]
    if truth is None:
        partner = match(second, first)
        extra = second.select(partner < 0)
        objects = _joined([first, extra])
        places = torch.full((len(second),), -1)
        places[partner >= 0] = partner[partner >= 0]
        places[partner < 0] = len(first) + torch.arange(len(extra))
        matched = [torch.arange(len(first)), places]
    else:
        objects = truth.objects
        pair = [_outside_crowds(found, match(found, objects), truth) for found in pair]
        matched = [match(found, objects) for found in pair]
    found_by = torch.zeros(2, len(objects), dtype=torch.bool)
    for row, places in zip(found_by, matched, strict=True):
        row[places[places >= 0]] = True
    finders = [
        Finder(
            found=found,
            right=places >= 0,
            alone=(places >= 0) & ~other[places.clamp(min=0)] if len(objects) else places >= 0,
            missed=objects.boxes[other & ~own],
        )
        for found, places, own, other in zip(pair, matched, found_by, found_by.flip(0), strict=True)
    ]
    return Agreement((finders[0], finders[1]), objects, found_by)


def match(found: Detections, objects: Detections) -> Tensor:
    """The object (R,) int64 that each detection is, each object once; -1 for none."""
    overlaps = box_iou(found.boxes, objects.boxes)  # (R, G)
    overlaps[found.labels[:, None] != objects.labels[None]] = 0
    order = found.scores.argsort(descending=True, stable=True)  # (R,)
    places = torch.empty(len(found), dtype=torch.int64)
    places[order] = torch.from_numpy(choose(overlaps[order].numpy(), SAME_FROM))
    return places


def _outside_crowds(found: Detections, places: Tensor, truth: Truth) -> Detections:
    """The detections but those that are no object and lie in a crowd of their class, by half of their area at least."""
    low = torch.maximum(found.boxes[:, None, :2], truth.crowds[None, :, :2])  # (R, C, 2)
    high = torch.minimum(found.boxes[:, None, 2:], truth.crowds[None, :, 2:])  # (R, C, 2)
    shared = (high - low).clamp(min=0).prod(dim=-1)  # (R, C)
    inside = shared >= SAME_FROM * box_area(found.boxes)[:, None]
    inside &= found.labels[:, None] == truth.crowd_labels[None]
    return found.select(~(inside.any(dim=1) & (places < 0)))


def _joined(parts: Sequence[Detections]) -> Detections:
    boxes, scores, labels = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("boxes", "scores", "labels")
    )
    masks = [part.masks for part in parts if part.masks is not None]
    return Detections(boxes, scores, labels, torch.cat(masks) if len(masks) == len(parts) else None)
