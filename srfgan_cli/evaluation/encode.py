"""Detections as COCO results (`srfgan_cli.evaluation.results`), image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from srfgan.models.ops.masks import paste_masks
from srfgan.models.ops.transfer import to_device
from srfgan.models.structures import Detections
from srfgan_cli.data.rle import encode_mask
from srfgan_cli.evaluation.device_masks import encode_pasted
from srfgan_cli.evaluation.results import Result


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
    placed, codes = at_original_size(detections, image_size, original_size)
    return as_results(placed, codes, image_id=image_id, category_ids=category_ids)


def at_original_size(
    detections: Detections, image_size: tuple[int, int], original_size: tuple[int, int]
) -> tuple[Detections, list[dict[str, Any]] | None]:
    """One image's detections where its file has them; arguments and what is dropped as for `to_coco_results`.

    Returns:
        Boxes, scores, labels and mask scores on the CPU; and each mask's compressed RLE, None without masks.
    """
    probs, masks = detections.mask_probs, detections.masks
    plain = replace(detections, mask_probs=None, masks=None).to("cpu")
    boxes, kept = _boxes_at(plain.boxes.float(), image_size, original_size)
    placed = replace(plain.select(kept), boxes=boxes)
    if probs is not None:
        return placed, _encoded(probs, boxes, kept, original_size)
    if masks is not None:
        return placed, [
            encode_mask(mask.numpy(), (0, 0), original_size) for mask in masks[kept.to(masks.device)].cpu()
        ]
    return placed, None


def as_results(
    placed: Detections,
    codes: Sequence[dict[str, Any]] | None,
    *,
    image_id: int,
    category_ids: Sequence[int],
) -> list[Result]:
    """What `at_original_size` gives in COCO results format."""
    scores, labels = placed.scores.double().tolist(), placed.labels.tolist()
    results: list[Result] = [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)],
            "score": round(score, 7),
        }
        for (x1, y1, x2, y2), score, label in zip(placed.boxes.double().tolist(), scores, labels, strict=True)
    ]
    for result, code in zip(results, codes or [], strict=False):
        result["segmentation"] = code
    if placed.mask_scores is not None:
        for result, score in zip(results, placed.mask_scores.double().tolist(), strict=True):
            result["mask_score"] = round(score, 7)
    return results


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


def _encoded(probs: Tensor, boxes: Tensor, kept: Tensor, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The RLE of each kept mask; a CPU pastes it only within its box, a GPU all of them at once in whole images."""
    if probs.device.type == "cpu":
        return [_pasted_rle(prob, box, size) for prob, box in zip(probs[kept], boxes, strict=True)]
    rows = to_device(kept.nonzero().flatten(), probs.device)
    return encode_pasted(probs[rows], boxes, size)


def _pasted_rle(prob: Tensor, box: Tensor, size: tuple[int, int]) -> dict[str, Any]:
    """The RLE of (M, M) probabilities pasted at `box` (4,), made in the pixels that the box touches."""
    x1, y1 = (math.floor(value) for value in box[:2].tolist())
    x2, y2 = (math.ceil(value) for value in box[2:].tolist())
    moved = box - box.new_tensor([x1, y1, x1, y1])
    pasted = paste_masks(prob[None], moved[None], (y2 - y1, x2 - x1))[0]
    return encode_mask(pasted.numpy(), (x1, y1), size)
