"""Two runs on the same images: the differences, and how much of them the choice of images may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from srfgan_cli.analysis.curves import class_curves, mean_ap
from srfgan_cli.analysis.matches import Matches
from srfgan_cli.evaluation.crowding import Group
from srfgan_cli.evaluation.outcomes import Outcomes

RESAMPLES = 400
"""Draws of as many images as there are, with replacement."""
_AT_ONCE = 50
"""Draws whose arrays are in memory together."""


@dataclass(frozen=True)
class Change:
    """AP of one run less that of another, in points.

    Attributes:
        value: on all images.
        low, high: its interval of 95 % over the choice of images (percentile bootstrap).
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """AP50 of one run less that of another, in points.

    Attributes:
        overall: of the mean over classes.
        per_class: of each class; None where it has no objects.
    """

    overall: Change
    per_class: list[float | None]


def difference(new: Matches, old: Matches, images: int) -> Difference:
    """Compare two runs' matches with the same data set of so many `images`."""
    ours, theirs = class_curves(new), class_curves(old)
    pairs = [(a.ap, b.ap) for a, b in zip(ours, theirs, strict=True)]
    per_class = [None if a is None or b is None else a - b for a, b in pairs]
    overall = (mean_ap(ours) or 0.0) - (mean_ap(theirs) or 0.0)
    low, high = _interval(outcomes_at_half(new), outcomes_at_half(old), images)
    return Difference(Change(overall, low, high), per_class)


def crowding_changes(
    new: Mapping[str, Group], old: Mapping[str, Group], images: int
) -> dict[str, Change | None]:
    """The same of each group's AP, on a data set of so many `images`; None where it has no objects."""
    changes: dict[str, Change | None] = {}
    for name, own in new.items():
        other = old[name]
        changes[name] = None
        if own.AP is not None and other.AP is not None:
            changes[name] = Change(own.AP - other.AP, *_interval(own.outcomes, other.outcomes, images))
    return changes


def outcomes_at_half(matches: Matches) -> Outcomes:
    """What AP50 rests on."""
    order = np.argsort(-matches.score, kind="stable")
    right = matches.correct[order, None]
    return Outcomes(
        image=matches.image[order],
        label=matches.label[order],
        right=right,
        wrong=~right & ~matches.ignored[order, None],
        truth_image=matches.truth_image,
        truth_label=matches.truth_label,
    )


def _interval(new: Outcomes, old: Outcomes, images: int) -> tuple[float, float]:
    """Of the difference in AP; draws of images without an object that counts have none, and stay out.

    0 where no image has one.
    """
    if not len(new.truth_image):
        return 0.0, 0.0
    draws = np.random.default_rng(0)
    changes = []
    for _ in range(RESAMPLES // _AT_ONCE):
        drawn = draws.integers(images, size=(_AT_ONCE, images))
        times = np.stack([np.bincount(one, minlength=images) for one in drawn]).astype(np.int32)
        changes.append(new.ap(times) - old.ap(times))
    low, high = np.nanpercentile(np.concatenate(changes), (2.5, 97.5))
    return float(low), float(high)
