"""Detections as COCO results: made image by image, written and read back as one json file.

The format is COCO's (cocodataset.org, "results format"): a list of dicts with `image_id`, `category_id`,
`bbox` [x, y, width, height], `score`, and for masks `segmentation` as a compressed RLE.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from models.errors import InputError
from models.ops.masks import paste_masks
from models.structures import Detections

Result = dict[str, Any]
"""One detection in COCO results format."""

MASK_PIXELS_AT_ONCE = 32_000_000
"""Pasted mask pixels (one byte each) held at a time, whatever the number of detections."""


def to_coco_results(
    detections: Detections,
    image_size: tuple[int, int],
    *,
    image_id: int,
    original_size: tuple[int, int],
    category_ids: Sequence[int],
) -> list[Result]:
    """One image's detections in COCO results format, at the image's original size.

    Args:
        detections: as `Detector.detect` gives them (`mask_probs`, or neither masks nor probabilities), or
            with pasted `masks` if the image was not resized.
        image_size: (H, W) of the image that the detector saw, in pixels.
        image_id: the data set's own id.
        original_size: (H, W) of the image file, in pixels.
        category_ids: the data set's category id of each label.

    Returns:
        Best score first. Detections that the image's border leaves empty are dropped. Boxes are rounded to
        1/1000 pixel, scores to seven digits (float32 has no more).
    """
    boxes, kept = _boxes_at(detections.boxes, image_size, original_size)
    scores = detections.scores[kept].double().tolist()
    labels = detections.labels[kept].tolist()
    results: list[Result] = [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)],
            "score": round(score, 7),
        }
        for (x1, y1, x2, y2), score, label in zip(boxes.double().tolist(), scores, labels, strict=True)
    ]
    rles: Iterator[dict[str, Any]] | None = None
    if detections.mask_probs is not None:
        rles = _pasted_rles(detections.mask_probs[kept], boxes, original_size)
    elif detections.masks is not None:
        rles = iter(encode_masks(detections.masks[kept]))
    if rles is not None:
        for result, rle in zip(results, rles, strict=True):
            result["segmentation"] = rle
    return results


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """COCO's compressed RLEs, `counts` as str, of masks (R, H, W) bool."""
    columns_first = np.asfortranarray(masks.to(torch.uint8).cpu().numpy().transpose(1, 2, 0))
    rles: list[dict[str, Any]] = coco_mask.encode(columns_first)
    for rle in rles:
        rle["counts"] = rle["counts"].decode("ascii")
    return rles


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Write `results` as json; `path` is whole or untouched, also when the disk is full.

    Raises:
        InputError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(results, file, separators=(",", ":"))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot write the results: {error.strerror or error}") from error


def read_results(
    path: Path, *, image_sizes: Mapping[int, tuple[int, int]], category_ids: Collection[int]
) -> list[Result]:
    """Read and check results in COCO format.

    Args:
        path: a json file as `write_results` or another tool wrote it.
        image_sizes: (H, W) by image id of the data set that the results belong to.
        category_ids: the data set's category ids.

    Raises:
        InputError: the file is missing, truncated or no list of results, or an entry does not fit the data
            set; names the file and the first such entry.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot read the results: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: not a complete json file ({error}); write the results again") from error
    if not isinstance(document, list):
        raise InputError(
            f"{path}: COCO results are a list of detections, this is a json {type(document).__name__}; "
            "give the results, not the annotations"
        )
    categories = frozenset(category_ids)
    for number, entry in enumerate(document):
        problem = _problem(entry, image_sizes, categories)
        if problem:
            raise InputError(f"{path}: entry {number}: {problem}")
    if len({"segmentation" in entry for entry in document}) > 1:
        without = next(n for n, entry in enumerate(document) if "segmentation" not in entry)
        raise InputError(
            f"{path}: entry {without}: has no 'segmentation', but other entries have; "
            "give masks for all detections or for none"
        )
    return document


def _boxes_at(
    boxes: Tensor, image_size: tuple[int, int], original_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Boxes scaled to the original image and clipped to it, without empty ones; and which were kept."""
    height, width = original_size
    scale = boxes.new_tensor([width / image_size[1], height / image_size[0]]).repeat(2)
    limit = boxes.new_tensor([width, height]).repeat(2)
    boxes = torch.minimum((boxes * scale).clamp(min=0), limit)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return boxes[kept], kept


def _pasted_rles(probs: Tensor, boxes: Tensor, size: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """RLEs of (R, M, M) probabilities pasted at `boxes`, a few at a time so that memory stays flat."""
    at_once = max(1, MASK_PIXELS_AT_ONCE // (size[0] * size[1]))
    for start in range(0, len(probs), at_once):
        part = slice(start, start + at_once)
        yield from encode_masks(paste_masks(probs[part], boxes[part], size))


def _problem(
    entry: Any, image_sizes: Mapping[int, tuple[int, int]], category_ids: frozenset[int]
) -> str | None:
    """What is wrong with one entry of a results file, or None."""
    if not isinstance(entry, dict):
        return f"a detection is a dict, this is {entry!r:.60}"
    missing = [key for key in ("image_id", "category_id", "bbox", "score") if key not in entry]
    if missing:
        return f"lacks {', '.join(map(repr, missing))}"
    if not isinstance(entry["image_id"], int) or entry["image_id"] not in image_sizes:
        return f"image id {entry['image_id']!r} is not in the data set; are these results of another split?"
    if not isinstance(entry["category_id"], int) or entry["category_id"] not in category_ids:
        known = ", ".join(map(str, sorted(category_ids)[:8])) + (", ..." if len(category_ids) > 8 else "")
        return f"category id {entry['category_id']!r} is not in the data set, whose ids are {known}"
    if not _is_number(entry["score"]):
        return f"the score is {entry['score']!r}, not a finite number"
    box = entry["bbox"]
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) >= 0):
        return f"the bbox is {box!r:.80}, not [x, y, width, height] in pixels"
    if "segmentation" in entry:
        return _mask_problem(entry["segmentation"], image_sizes[entry["image_id"]])
    return None


def _mask_problem(mask: Any, image_size: tuple[int, int]) -> str | None:
    if not (isinstance(mask, dict) and isinstance(mask.get("counts"), str) and "size" in mask):
        return "the segmentation is not a compressed RLE, {'size': [height, width], 'counts': '...'}"
    if mask["size"] != list(image_size):
        return f"the mask's size is {mask['size']}, the image's [height, width] {list(image_size)}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
