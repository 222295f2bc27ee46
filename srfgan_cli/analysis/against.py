"""Two runs on the same images: the differences, and how much of them the choice of images may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from srfgan_cli.analysis.curves import average_precision, class_curves, mean_ap
from srfgan_cli.analysis.matches import Matches

RESAMPLES = 400
"""Draws of as many images as there are, with replacement."""


@dataclass(frozen=True)
class Difference:
    """AP50 of one run less that of another, in points.

    Attributes:
        overall: of the mean over classes.
        low, high: its interval of 95 % over the choice of images (percentile bootstrap).
        per_class: of each class; None where it has no objects.
    """

    overall: float
    low: float
    high: float
    per_class: list[float | None]


def difference(new: Matches, old: Matches, images: int, seed: int = 0) -> Difference:
    """Compare two runs' matches with the same data set of so many `images`."""
    ours, theirs = class_curves(new), class_curves(old)
    pairs = [(a.ap, b.ap) for a, b in zip(ours, theirs, strict=True)]
    per_class = [None if a is None or b is None else a - b for a, b in pairs]
    overall = (mean_ap(ours) or 0.0) - (mean_ap(theirs) or 0.0)
    draws = np.random.default_rng(seed)
    sides = [_Sorted.of(matches) for matches in (new, old)]
    sampled = []
    for _ in range(RESAMPLES):
        times = np.bincount(draws.integers(images, size=images), minlength=images).astype(np.float64)
        first, second = (side.ap50(times) for side in sides)
        sampled.append(first - second)
    low, high = np.percentile(sampled, (2.5, 97.5))
    return Difference(overall, float(low), float(high), per_class)


@dataclass(frozen=True)
class _Sorted:
    """Each class's detections, best first, and objects: their images, and which detections are right."""

    classes: list[tuple[np.ndarray, np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, matches: Matches) -> _Sorted:
        parts = []
        for label in range(matches.classes):
            rows = np.flatnonzero((matches.label == label) & ~matches.ignored)
            rows = rows[np.argsort(-matches.score[rows], kind="stable")]
            objects = matches.truth_image[matches.truth_label == label]
            parts.append((matches.image[rows], matches.correct[rows], objects))
        return cls(parts)

    def ap50(self, times: np.ndarray) -> float:
        """Mean AP50 in percent where each image is there so many `times`."""
        values = []
        for image, correct, objects in self.classes:
            count = times[objects].sum()
            if not count:
                continue
            weight = times[image]
            right = np.cumsum(weight * correct)
            all_ = np.cumsum(weight)
            precision = np.divide(right, all_, out=np.zeros_like(right), where=all_ > 0)
            values.append(average_precision(precision, right / count))
        return float(np.mean(values)) if values else 0.0
