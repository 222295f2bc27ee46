"""AP of lone and of crowded objects, as COCO has it of small and of large ones.

An object is as crowded as its box's largest IoU with that of another object of its class in the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

from srfgan_cli.evaluation.matching import choose_where_some_count
from srfgan_cli.evaluation.outcomes import Outcomes

GROUPS = ("alone", "touching", "crowded")
"""Without overlap, with less than `CROWDED`, and with as much or more."""
CROWDED = 0.1
"""An IoU. It splits overlapping objects of COCO, and nuclei under a microscope, into parts that are large enough."""


@dataclass(frozen=True)
class Group:
    """Objects that stand alike.

    Attributes:
        objects: how many; crowd regions are none.
        AP: in percent, over COCO's ten IoUs and the classes that have such objects; None without any.
        outcomes: what it rests on.
    """

    objects: int
    AP: float | None
    outcomes: Outcomes = field(compare=False, repr=False)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(A, B) IoU of boxes (A, 4) and others (B, 4), float64 x, y, width, height."""
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    return np.asarray(coco_mask.iou(boxes, others, [0] * len(others)))


def crowding(boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(G,) the largest IoU of each of one image's objects with another one of its class, 0..1.

    Args:
        boxes: (G, 4) float64 x, y, width, height.
        labels: (G,) int64.
    """
    apart = overlaps(boxes, boxes) * (labels[:, None] == labels[None])
    np.fill_diagonal(apart, 0)
    largest: np.ndarray = apart.max(axis=1, initial=0)
    return largest


def group_of(crowded: np.ndarray) -> np.ndarray:
    """The place in `GROUPS` of objects with so much `crowding`; int64."""
    return (crowded > 0).astype(np.int64) + (crowded >= CROWDED)


def ap_by_crowding(evaluated: COCOeval_faster) -> dict[str, Group]:
    """Each group's AP.

    As with COCO's areas, the objects of other groups and what is matched with them count neither way. A detection that
    is no object counts where the object of its class is that its box overlaps most; without any it is alone.

    Args:
        evaluated: by boxes or by masks, with its IoUs; images and classes are numbered from 1.
    """
    once = np.ones((1, len(evaluated.cocoGt.imgs)), np.int32)
    groups = {}
    for name, outcomes in zip(GROUPS, _outcomes(evaluated), strict=True):
        objects = len(outcomes.truth_image)
        groups[name] = Group(objects, float(outcomes.ap(once)[0]) if objects else None, outcomes)
    return groups


def _outcomes(evaluated: COCOeval_faster) -> Iterator[Outcomes]:
    """Of each group."""
    params = evaluated.params
    truth = _Columns.of(evaluated.cocoGt, "iscrowd")
    found = _Columns.of(evaluated.cocoDt, "score").best(params.maxDets[-1])
    objects = np.full(len(truth.image), -1)  # the group of each; crowd regions have none
    near = np.zeros(len(found.image), np.int64)  # the group where a detection counts that is no object
    kind = np.zeros((len(near), len(GROUPS), len(params.iouThrs)), np.int8)
    for of_truth, of_found in truth.pairs_with(found):
        crowd = truth.value[of_truth] > 0
        boxes = truth.box[of_truth][~crowd]
        own = group_of(crowding(boxes, np.zeros(len(boxes), np.int64)))
        groups = objects[of_truth]
        groups[~crowd] = own
        if of_found.start == of_found.stop:
            continue
        apart = overlaps(found.box[of_found], boxes)
        if len(boxes):
            near[of_found] = np.where(apart.any(axis=1), own[apart.argmax(axis=1)], 0)
        iou = np.asarray(evaluated.ious[int(truth.image[of_truth.start]), int(truth.label[of_truth.start])])
        counts = groups == np.arange(len(GROUPS))[:, None]
        kind[of_found] = choose_where_some_count(iou, counts, crowd, params.iouThrs)
    order = np.lexsort((-found.value, found.label))
    for number in range(len(GROUPS)):
        wrong = (kind[:, number] == 0) & (near == number)[:, None]
        right = kind[:, number] == 1
        rows = order[(right | wrong).any(axis=1)[order]]
        inside = objects == number
        yield Outcomes(
            image=found.image[rows] - 1,
            label=found.label[rows] - 1,
            right=right[rows],
            wrong=wrong[rows],
            truth_image=truth.image[inside] - 1,
            truth_label=truth.label[inside] - 1,
        )


@dataclass(frozen=True)
class _Columns:
    """Annotations or detections (N), by class and image.

    Attributes:
        image, label: (N,) int64, numbered from 1.
        box: (N, 4) float64 x, y, width, height.
        value: (N,) float64 of one key more.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, annotations: COCO, key: str) -> _Columns:
        """All of them, each image's in their order."""
        given = list(annotations.anns.values())
        image = np.array([one["image_id"] for one in given], np.int64)
        label = np.array([one["category_id"] for one in given], np.int64)
        box = np.array([one["bbox"] for one in given], np.float64).reshape(-1, 4)
        value = np.array([one[key] for one in given], np.float64)
        return cls(image, label, box, value)._at(np.lexsort((image, label)))

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
        stops = np.append(starts[1:], len(self.image))
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
        return _Columns(self.image[rows], self.label[rows], self.box[rows], self.value[rows])
