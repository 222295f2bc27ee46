"""Whether an exported file finds what PyTorch finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from srfgan.models.detector import Detector
from srfgan.models.structures import Detections
from srfgan_cli.data.shapes import example_image
from srfgan_cli.export.graph import Runtime, split_batch


class Tolerance(NamedTuple):
    """How far a detection may be from PyTorch's and still be the same one.

    Attributes:
        boxes: pixels.
        scores: absolute.
        masks: of a mask's probability, at its worst cell.
    """

    boxes: float
    scores: float
    masks: float


FULL = Tolerance(0.05, 1e-3, 1e-2)
HALF = Tolerance(1.0, 2e-2, 5e-2)
"""For networks that compute in float16, compared with float32."""

SAME_SHARE = 0.95
"""Of all detections. Where two candidates are equal but for rounding, NMS or a limit may choose the other
one in another runtime, most of all in large uniform areas, which look the same everywhere."""


ENOUGH = 20
"""Detections on all images together, if a lower threshold is looked for."""


class ExportMismatchError(RuntimeError):
    """The exported file runs, but does not find what PyTorch finds."""


@dataclass(frozen=True)
class Difference:
    """What PyTorch and the file find on one image.

    Attributes:
        image: what is on it, height x width.
        expected: detections by PyTorch.
        found: detections by the file.
        same: pairs of the same class within the tolerances.
        boxes: largest difference among these, in pixels; 0 without any, as the next two.
        scores: absolute, of boxes and, where they have their own, of masks.
        masks: of probabilities; None for a detector without masks.
    """

    image: str
    expected: int
    found: int
    same: int = 0
    boxes: float = 0.0
    scores: float = 0.0
    masks: float | None = None

    @property
    def total(self) -> int:
        """How many should be the same."""
        return max(self.expected, self.found)

    def as_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)


def check_images(smallest: int, given: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The images (3, H, W) float32 that a file is tried on: those `given`, or two scenes; and a blank one.

    The blank one is as small as a graph takes (`smallest` rows), so that its borders tell every place of it
    from the others.
    """
    scene = example_image(480).float()
    scenes = given or {"scene": scene[:, :352], "tall scene": scene[:, :, 100:420]}
    return scenes | {"blank": torch.zeros(3, smallest, smallest + 32)}


def lower_threshold(detector: Detector, images: dict[str, Tensor]) -> float | None:
    """A score threshold below the detector's own that some of `images` (3, H, W) pass; None if there is none."""
    threshold, count = detector.head.inference.score_threshold, 0
    while threshold and count < ENOUGH:
        threshold = threshold / 4 if threshold > 1e-4 else 0.0
        with detector.at_threshold(threshold), torch.no_grad():
            count = sum(len(detector.detect([image])[0]) for image in images.values())
    return threshold if count else None


def compare_on(
    detector: Detector,
    runtime: Runtime,
    images: dict[str, Tensor],
    tolerance: Tolerance = FULL,
    batch: int | None = None,
) -> list[Difference]:
    """Run a detector in PyTorch and as an exported file on the same images (3, H, W) and compare.

    A file for a `batch` of so many gets each image and its mirror image in turn, and every one of them is compared.
    """
    differences = []
    for name, image in images.items():
        title = f"{name}, {image.shape[1]} x {image.shape[2]}"
        views = [image.flip(-1) if at % 2 else image for at in range(batch or 1)]
        of_views = [runtime(image)] if batch is None else split_batch(runtime(torch.stack(views)), batch)
        for at, (view, found) in enumerate(zip(views, of_views, strict=True)):
            with torch.no_grad():
                expected = detector.detect([view])[0]
            place = "" if batch is None else f", place {at}"
            differences.append(compare(expected, found, title + place, tolerance))
    return differences


def compare(
    expected: Detections, found: dict[str, Tensor], image: str, tolerance: Tolerance = FULL
) -> Difference:
    """Pair what PyTorch and the file find on one image, in whatever order, and measure the pairs.

    Args:
        expected: PyTorch's, with `mask_probs` (R, M, M) if the detector has masks, and their scores if it has them.
        found: the file's outputs by name.
        image: how to call the image.
        tolerance: within which two detections are the same.
    """
    ours, theirs = _pairs(expected, found)
    boxes = (expected.boxes[ours] - found["boxes"][theirs]).abs().amax(dim=1)
    scores = (expected.scores[ours] - found["scores"][theirs]).abs()
    if expected.mask_scores is not None:
        scores = scores.maximum((expected.mask_scores[ours] - found["mask_scores"][theirs]).abs())
    masks = torch.zeros_like(scores)
    if expected.mask_probs is not None:
        masks = (expected.mask_probs[ours] - found["masks"][theirs]).abs().amax(dim=(1, 2))
    errors = torch.stack([boxes, scores, masks], dim=1)
    errors = errors[(errors <= torch.tensor(tolerance)).all(dim=1)]
    largest = errors.amax(dim=0).tolist() if len(errors) else [0.0, 0.0, 0.0]
    if expected.mask_probs is None:
        largest[2] = None
    return Difference(image, len(expected), len(found["boxes"]), len(errors), *largest)


def agree(differences: Sequence[Difference]) -> bool:
    """Whether nearly all detections of all images together are the same."""
    return sum(one.same for one in differences) >= SAME_SHARE * sum(one.total for one in differences)


def _pairs(expected: Detections, found: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Indices (P,) of detections that are each other's nearest of their class."""
    if len(expected) == 0 or len(found["boxes"]) == 0:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    distance = (expected.boxes[:, None] - found["boxes"]).abs().amax(dim=-1)
    distance += (expected.scores[:, None] - found["scores"]).abs()
    distance[(expected.labels[:, None] != found["labels"]) | distance.isnan()] = torch.inf
    nearest, theirs = distance.min(dim=1)
    ours = torch.arange(len(expected))
    mutual = (distance.argmin(dim=0)[theirs] == ours) & nearest.isfinite()
    return ours[mutual], theirs[mutual]
