"""Every detection of a results file with the object that it is, or how near it comes to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.rle import with_bytes
from srfgan_cli.evaluation.coco import REGIONS, Task, ground_truth
from srfgan_cli.evaluation.crowding import crowding
from srfgan_cli.evaluation.matching import choose
from srfgan_cli.evaluation.results import Result, mask_score

IOU = 0.5
"""From which on a detection is an object, as in AP50."""


@dataclass(frozen=True)
class Matches:
    """Detections (D) and objects (G) of a data set; crowd regions are no objects.

    Images are numbered as in the index, labels are 0-based. Detections stand image by image, best score first.

    Attributes:
        classes: how many.
        image, label, score: (D,) of the detections.
        object: (D,) int64, the object that a detection is; -1 for none.
        ignored: (D,) bool, no object, but in a crowd region of its class: counts neither way.
        own, own_at: (D,) IoU with the nearest object of its class, and which; 0 and -1 without any.
        other, other_at: (D,) the same of the other classes.
        taken: (D,) IoU with the nearest object of its class that another detection is.
        truth_image, truth_label, truth_area: (G,) of the objects; areas in pixels, of boxes or of masks.
        truth_box: (G, 4) float64 x, y, width, height.
        found: (G,) bool, whether a detection is the object.
        nearest: (G,) IoU of the object's box with that of the nearest other object of its class.
    """

    classes: int
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    object: np.ndarray
    ignored: np.ndarray
    own: np.ndarray
    own_at: np.ndarray
    other: np.ndarray
    other_at: np.ndarray
    taken: np.ndarray
    truth_image: np.ndarray
    truth_label: np.ndarray
    truth_area: np.ndarray
    truth_box: np.ndarray
    found: np.ndarray
    nearest: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """(D,) bool: it is an object."""
        return self.object >= 0


def match(
    index: CocoIndex, results: Sequence[Result], task: Task = "box", max_detections: int = 100
) -> Matches:
    """Match results with the annotations as COCO does it at an IoU of 0.5.

    The best detection of an image is the first to choose: of the objects of its class that are left, the one that it
    overlaps most.

    Args:
        index: the data set.
        results: checked results of its images (`read_results`).
        task: by boxes or by masks; masks are ranked by their own scores, if there are.
        max_detections: of each image and class that count, best first.
    """
    truth = ground_truth(index, task)["annotations"]
    region = REGIONS[task]
    sizes = index.sizes.tolist()
    objects: list[list[dict[str, Any]]] = [[] for _ in sizes]
    for one in truth:
        objects[one["image_id"] - 1].append(one)
    numbers = {image: number for number, image in enumerate(index.image_ids.tolist())}
    labels = {category: label for label, category in enumerate(index.categories.ids)}
    found: list[list[tuple[int, float, Any]]] = [[] for _ in sizes]
    for result in results:
        place = with_bytes(result[region]) if task == "mask" else result[region]
        of_image = found[numbers[result["image_id"]]]
        of_image.append((labels[result["category_id"]], score_of(result, task), place))
    parts = [
        _match_image(image, found[image], objects[image], sizes[image], region, max_detections)
        for image in range(len(sizes))
    ]
    return _together(parts, len(index.categories))


def score_of(result: Result, task: Task) -> float:
    """What a detection of a task is ranked by."""
    score: float = mask_score(result) if task == "mask" else result["score"]
    return score


def counted(label: np.ndarray, score: np.ndarray, limit: int) -> np.ndarray:
    """Places of an image's detections that count, best first: so many of each class.

    Args:
        label, score: (D,) of the detections.
        limit: of a class, as `match`'s `max_detections`.
    """
    seen: dict[int, int] = {}
    kept = []
    for at in np.argsort(-score, kind="stable").tolist():
        number = seen.get(kind := int(label[at]), 0)
        seen[kind] = number + 1
        if number < limit:
            kept.append(at)
    return np.array(kept, np.int64)


def _match_image(
    image: int,
    found: list[tuple[int, float, Any]],
    truth: list[dict[str, Any]],
    size: list[int],
    region: str,
    limit: int,
) -> dict[str, np.ndarray]:
    """One image's part of `Matches`, its objects numbered from 0."""
    label = np.array([one[0] for one in found], np.int64)
    score = np.array([one[1] for one in found], np.float64)
    kept = counted(label, score, limit)
    label, score, regions = label[kept], score[kept], [found[at][2] for at in kept]
    objects = [one for one in truth if not one["iscrowd"]]
    crowds = [one for one in truth if one["iscrowd"]]
    kinds = np.array([one["category_id"] - 1 for one in objects], np.int64)
    iou = _overlaps(regions, [_region(one, region, size) for one in objects], crowd=False)  # (D, G)
    same = label[:, None] == kinds[None]
    chosen = choose(iou * same, IOU)
    taken = np.isin(np.arange(len(objects)), chosen)
    own, own_at = _largest(iou * same)
    other, other_at = _largest(iou * ~same)
    in_crowd = _overlaps(regions, [_region(one, region, size) for one in crowds], crowd=True)
    crowd_kinds = np.array([one["category_id"] - 1 for one in crowds], np.int64)
    ignored = ((in_crowd >= IOU) & (label[:, None] == crowd_kinds[None])).any(axis=1) & (chosen < 0)
    boxes = np.array([one["bbox"] for one in objects], np.float64).reshape(-1, 4)
    return {
        "image": np.full(len(label), image),
        "label": label,
        "score": score,
        "object": chosen,
        "ignored": ignored,
        "own": own,
        "own_at": own_at,
        "other": other,
        "other_at": other_at,
        "taken": _largest(iou * same * taken)[0],
        "truth_image": np.full(len(objects), image),
        "truth_label": kinds,
        "truth_area": np.array([one["area"] for one in objects], np.float64),
        "truth_box": boxes,
        "found": taken,
        "nearest": crowding(boxes, kinds),
    }


def _largest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest of each row (D, G), and where; 0 and -1 where all are 0."""
    if not values.shape[1]:
        return np.zeros(len(values)), np.full(len(values), -1)
    place = values.argmax(axis=1)
    most = values[np.arange(len(values)), place]
    return most, np.where(most > 0, place, -1)


def _overlaps(regions: list[Any], truth: list[Any], *, crowd: bool) -> np.ndarray:
    """(D, G) IoU; of crowds, the share of the detection that lies in the region."""
    if not regions or not truth:
        return np.zeros((len(regions), len(truth)))
    boxes = not isinstance(regions[0], dict)
    first, second = (
        (np.array(part, np.float64) if boxes else part) for part in (regions, truth)
    )  # either all boxes, or all RLEs
    return np.asarray(coco_mask.iou(first, second, [crowd] * len(truth)))


def _region(one: dict[str, Any], region: str, size: list[int]) -> Any:
    if region == "bbox":
        return one["bbox"]
    height, width = size
    outline = one["segmentation"]
    codes = coco_mask.frPyObjects(outline, height, width)
    return coco_mask.merge(codes) if isinstance(outline, list) else codes


def _together(parts: Sequence[dict[str, np.ndarray]], classes: int) -> Matches:
    """All images' parts, objects numbered through."""
    first = np.cumsum([0, *(len(part["found"]) for part in parts)])
    for part, offset in zip(parts, first, strict=False):
        for name in ("object", "own_at", "other_at"):
            part[name] = np.where(part[name] >= 0, part[name] + offset, -1)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Matches(classes, **joined)
