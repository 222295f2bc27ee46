"""AP of lone and of crowded objects, as COCO has it of small and of large ones.

An object is as crowded as its box's largest IoU with that of another object of its class in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

GROUPS = ("alone", "touching", "crowded")
"""Without overlap, with less than `CROWDED`, and with as much or more."""
CROWDED = 0.1
"""An IoU. It splits overlapping objects of COCO, and nuclei under a microscope, into parts that are large enough."""

Annotation = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Objects that stand alike.

    Attributes:
        objects: how many; crowd regions are none.
        AP: in percent, over COCO's ten IoUs and the classes that have such objects; None without any.
    """

    objects: int
    AP: float | None


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
        evaluated: by boxes or by masks, with its IoUs. Its annotations' areas are written over.
    """
    truth, found = evaluated.cocoGt, evaluated.cocoDt
    objects = _set_groups(truth, found)
    evaluator = COCOeval_faster(truth, found, iouType=evaluated.params.iouType)
    evaluator.params.maxDets = evaluated.params.maxDets
    evaluator.params.areaRng = [[number, number] for number in range(len(GROUPS))]
    evaluator.computeIoU = lambda image, category: evaluated.ious[image, category]  # of masks they take long
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"][..., -1]  # (thresholds, recalls, classes, groups); -1: no object
    groups = {}
    for number, name in enumerate(GROUPS):
        values = precision[..., number]
        values = values[values > -1]
        groups[name] = Group(objects[number], 100 * float(values.mean()) if values.size else None)
    return groups


def _set_groups(truth: COCO, found: COCO) -> list[int]:
    """Write every annotation's group in the place of its area; how many objects each group has."""
    counts = np.zeros(len(GROUPS), np.int64)
    detections = _by_image_and_class(found)
    for one in found.anns.values():
        one["area"] = 0
    for key, together in _by_image_and_class(truth).items():
        objects = [one for one in together if not one["iscrowd"]]
        boxes = _boxes(objects)
        groups = group_of(crowding(boxes, np.zeros(len(objects), np.int64)))
        counts += np.bincount(groups, minlength=len(GROUPS))
        _set(objects, groups)
        if objects and key in detections:
            near = overlaps(_boxes(detections[key]), boxes)
            _set(detections[key], np.where(near.any(axis=1), groups[near.argmax(axis=1)], 0))
    return counts.tolist()


def _by_image_and_class(annotations: COCO) -> dict[tuple[int, int], list[Annotation]]:
    grouped: dict[tuple[int, int], list[Annotation]] = {}
    for one in annotations.anns.values():
        grouped.setdefault((one["image_id"], one["category_id"]), []).append(one)
    return grouped


def _boxes(annotations: Sequence[Annotation]) -> np.ndarray:
    return np.array([one["bbox"] for one in annotations], np.float64).reshape(-1, 4)


def _set(annotations: Sequence[Annotation], groups: np.ndarray) -> None:
    for one, group in zip(annotations, groups.tolist(), strict=True):
        one["area"] = group
