"""Two runs on the same images: the differences, and how much of them the choice of images may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from srfgan_cli.evaluation.groups import ALL, SIZES, Group
from srfgan_cli.evaluation.outcomes import mean_over_classes
from srfgan_cli.evaluation.report import METRICS

RESAMPLES = 400
"""Draws of as many images as there are, with replacement."""
FEWEST = 10
"""Images with such objects that an interval needs: draws of one image are all alike, whatever others would show."""
_AT_ONCE = 200
"""Draws whose arrays are in memory together."""
_AP50, _AP75 = 0, 5
"""Their places in COCO's ten IoUs."""


@dataclass(frozen=True)
class Change:
    """AP of one run less that of another, in points.

    Attributes:
        value: on all images.
        interval: its ends, 95 % over the choice of images (percentile bootstrap); None with fewer images than `FEWEST`.
    """

    value: float
    interval: tuple[float, float] | None

    @property
    def surety(self) -> float:
        """How far the interval is from zero, in points; below 0 where it is around it, 0 where there is none."""
        return 0.0 if self.interval is None else max(self.interval[0], -self.interval[1])

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.surety > 0


@dataclass(frozen=True)
class Difference:
    """One run less another; None where there are no objects.

    Attributes:
        groups: of the AP of each group of objects, `groups.ALL` the first.
        AP50, AP75: of all objects.
        per_class: of each class's AP.
    """

    groups: dict[str, Change | None]
    AP50: Change | None
    AP75: Change | None
    per_class: list[Change | None]

    @property
    def by_metric(self) -> dict[str, Change | None]:
        """Of each of COCO's average precisions, by its name."""
        changes = [self.groups[ALL], self.AP50, self.AP75, *(self.groups[size] for size in SIZES)]
        return dict(zip(METRICS, changes, strict=True))


def difference(new: Mapping[str, Group], old: Mapping[str, Group], images: int) -> Difference:
    """Compare what `score` says of two runs' groups on the same data set of so many `images`."""
    times = list(_draws(images))
    ours, theirs = new[ALL].outcomes, old[ALL].outcomes
    whole = np.concatenate([ours.by_class(one) - theirs.by_class(one) for one in times])
    by_class = whole.mean(axis=2)
    changes = {ALL: _change(mean_over_classes(by_class), ours.truth_image)}
    for name in [name for name in new if name != ALL]:
        own, other = new[name].outcomes, old[name].outcomes
        changes[name] = _change(
            np.concatenate([own.ap(one) - other.ap(one) for one in times]), own.truth_image
        )
    at_50, at_75 = (
        _change(mean_over_classes(whole[..., place]), ours.truth_image) for place in (_AP50, _AP75)
    )
    per_class = [
        _change(values, ours.truth_image[ours.truth_label == label])
        for label, values in enumerate(by_class.T)
    ]
    return Difference(changes, at_50, at_75, per_class)


def _draws(images: int) -> Iterator[np.ndarray]:
    """How often each image is there, (I, R) int32: at first once, then in `RESAMPLES` draws."""
    yield np.ones((images, 1), np.int32)
    draws = np.random.default_rng(0)
    for _ in range(RESAMPLES // _AT_ONCE):
        drawn = draws.integers(images, size=(_AT_ONCE, images))
        yield np.stack([np.bincount(one, minlength=images) for one in drawn], axis=1).astype(np.int32)


def _change(values: np.ndarray, truth_image: np.ndarray) -> Change | None:
    """What differs where there are objects (G,), in these images.

    Args:
        values: (1 + R,) on all images and on draws of them; draws without an object have NaN, and stay out.
    """
    if not len(truth_image):
        return None
    if len(np.unique(truth_image)) < FEWEST:
        return Change(float(values[0]), None)
    low, high = np.nanpercentile(values[1:], (2.5, 97.5))
    return Change(float(values[0]), (float(low), float(high)))
