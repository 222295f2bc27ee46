"""AP of groups of objects, and what it rests on: COCO's small, medium and large ones, and lone and crowded ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from srfgan_cli.evaluation.crowding import GROUPS, crowding, group_of, overlaps
from srfgan_cli.evaluation.matching import choose_where_some_count
from srfgan_cli.evaluation.outcomes import Outcomes

ALL = "all"
SIZES = ("small", "medium", "large")
_AREAS = (ALL, *SIZES)
"""The evaluator's area ranges, in its order."""


@dataclass(frozen=True)
class Group:
    """Objects that are alike.

    Attributes:
        objects: how many; crowd regions are none.
        AP: in percent, over COCO's ten IoUs and the classes that have such objects; None without any.
        outcomes: what it rests on.
    """

    objects: int
    AP: float | None
    outcomes: Outcomes = field(compare=False, repr=False)


def ap_by_group(evaluated: COCOeval_faster) -> dict[str, Group]:
    """AP of all objects, of those of each of `SIZES`, and of those of each of `crowding.GROUPS`.

    The objects of other groups and what is matched with them count neither way. A detection that is no object counts
    by its own size, and by crowding where the object of its class is that its box overlaps most; without any it is
    alone.

    Args:
        evaluated: by boxes or by masks, with its IoUs and COCO's areas; images and classes are numbered from 1.
    """
    once = np.ones((len(evaluated.cocoGt.imgs), 1), np.int32)
    groups = {}
    for name, outcomes in zip((*_AREAS, *GROUPS), _outcomes(evaluated), strict=True):
        objects = len(outcomes.truth_image)
        groups[name] = Group(objects, float(outcomes.ap(once)[0]) if objects else None, outcomes)
    return groups


def _outcomes(evaluated: COCOeval_faster) -> Iterator[Outcomes]:
    """Of each group."""
    params = evaluated.params
    truth = _Columns.of(evaluated.cocoGt, "iscrowd")
    found = _Columns.of(evaluated.cocoDt, "score").best(params.maxDets[-1])
    areas = np.array(params.areaRng, np.float64)
    groups = np.arange(len(GROUPS))[:, None]
    counts = np.zeros((len(areas) + len(GROUPS), len(truth.image)), bool)  # objects, in each group
    counts[: len(areas)] = _inside(truth.area, areas) & (truth.value == 0)
    # The group by crowding where a detection counts that is no object.
    near = np.zeros(len(found.image), np.int64)
    kind = np.zeros((len(near), len(counts), len(params.iouThrs)), np.int8)
    for of_truth, of_found in truth.pairs_with(found):
        crowd = truth.value[of_truth] > 0
        boxes = truth.box[of_truth][~crowd]
        own = group_of(crowding(boxes, np.zeros(len(boxes), np.int64)))
        counts[len(areas) :, of_truth.start + np.flatnonzero(~crowd)] = own == groups
        if of_found.start == of_found.stop:
            continue
        apart = overlaps(found.box[of_found], boxes)
        if len(boxes):
            near[of_found] = np.where(apart.any(axis=1), own[apart.argmax(axis=1)], 0)
        iou = np.asarray(evaluated.ious[int(truth.image[of_truth.start]), int(truth.label[of_truth.start])])
        kind[of_found] = choose_where_some_count(iou, counts[:, of_truth], crowd, params.iouThrs)
    inside = np.concatenate([_inside(found.area, areas), near == groups])
    order = np.lexsort((-found.value, found.label))
    for number, objects in enumerate(counts):
        wrong = (kind[:, number] == 0) & inside[number, :, None]
        right = kind[:, number] == 1
        rows = order[(right | wrong).any(axis=1)[order]]
        yield Outcomes(
            image=found.image[rows] - 1,
            label=found.label[rows] - 1,
            right=right[rows],
            wrong=wrong[rows],
            truth_image=truth.image[objects] - 1,
            truth_label=truth.label[objects] - 1,
            classes=len(evaluated.cocoGt.cats),
        )


def _inside(area: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """(A, N) whether each area (N,) is in each range (A, 2); COCO's include both of their ends."""
    inside: np.ndarray = (area >= ranges[:, :1]) & (area <= ranges[:, 1:])
    return inside


@dataclass(frozen=True)
class _Columns:
    """Annotations or detections (N), by class and image.

    Attributes:
        image, label: (N,) int64, numbered from 1.
        box: (N, 4) float64 x, y, width, height.
        area: (N,) float64, of boxes or of masks.
        value: (N,) float64 of one key more.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    area: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, annotations: COCO, key: str) -> _Columns:
        """All of them, each image's in their order."""
        given = list(annotations.anns.values())
        image = np.array([one["image_id"] for one in given], np.int64)
        label = np.array([one["category_id"] for one in given], np.int64)
        box = np.array([one["bbox"] for one in given], np.float64).reshape(-1, 4)
        area, value = (np.array([one[name] for one in given], np.float64) for name in ("area", key))
        return cls(image, label, box, area, value)._at(np.lexsort((image, label)))

    def best(self, limit: int) -> _Columns:
        """Of each image and class those of the highest value, so many at most, the best first."""
        ranked = self._at(np.lexsort((-self.value, self.image, self.label)))
        starts = ranked._starts
        place = np.arange(len(ranked.image))
        began = np.repeat(starts, np.diff(starts, append=len(place)))
        return ranked._at(np.flatnonzero(place - began < limit))

    def pairs_with(self, others: _Columns) -> Iterator[tuple[slice, slice]]:
        """The rows of each image and class that there are here, and theirs of `others`."""
        starts = self._starts
        stops = np.append(starts, len(self.image))[1:]
        images = 1 + max(self.image.max(initial=0), others.image.max(initial=0))
        keys, theirs = self.label[starts] * images + self.image[starts], others.label * images + others.image
        first, last = (np.searchsorted(theirs, keys, side) for side in ("left", "right"))
        for start, stop, low, high in zip(
            *(part.tolist() for part in (starts, stops, first, last)), strict=True
        ):
            yield slice(start, stop), slice(low, high)

    @property
    def _starts(self) -> np.ndarray:
        """Where each image and class begins."""
        if not len(self.image):
            return np.zeros(0, np.int64)
        new = (np.diff(self.image) != 0) | (np.diff(self.label) != 0)
        return np.flatnonzero(np.concatenate([[True], new]))

    def _at(self, rows: np.ndarray) -> _Columns:
        return _Columns(self.image[rows], self.label[rows], self.box[rows], self.area[rows], self.value[rows])
