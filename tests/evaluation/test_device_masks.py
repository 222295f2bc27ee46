"""Masks encoded as on a GPU are those of the host's way: the same functions run here on CPU tensors."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from srfgan.models.structures import Detections
from srfgan_cli.evaluation import device_masks, encode
from srfgan_cli.evaluation.device_masks import encode_masks
from srfgan_cli.evaluation.encode import to_coco_results


def full_and_empty_and_corners():
    masks = torch.zeros(6, 7, 5, dtype=torch.bool)
    masks[1] = True
    masks[2, 0, 0] = masks[3, -1, -1] = True
    masks[4, 3:, 2] = masks[4, :2, 3] = True  # a run from one column's end to the next one's begin, nearly
    masks[5, 3:, 2] = masks[5, :, 3] = True
    return masks


@pytest.mark.parametrize("masks", [full_and_empty_and_corners(), torch.rand(9, 13, 17) > 0.5])
def test_codes_are_pycocotools_own(masks):
    expected = coco_mask.encode(np.asfortranarray(masks.numpy().transpose(1, 2, 0).astype(np.uint8)))
    assert [code["counts"] for code in encode_masks(masks)] == [code["counts"].decode() for code in expected]
    assert all(code["size"] == list(masks.shape[1:]) for code in encode_masks(masks))


def test_no_masks_give_no_codes():
    assert encode_masks(torch.zeros(0, 4, 4, dtype=torch.bool)) == []


@pytest.mark.parametrize("at_once", [2**27, 1])
def test_a_gpus_results_are_a_cpus(monkeypatch, at_once):
    """Boxes beyond the border, empty ones and an image that was resized; whole or in parts of one mask."""
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(30, 2, generator=random) * 90 - 10
    boxes = torch.cat([corners, corners + torch.rand(30, 2, generator=random) * 60], dim=1)
    boxes[3] = torch.tensor([-20.0, -20, -5, -5])
    found = Detections(
        boxes, torch.rand(30, generator=random), torch.zeros(30, dtype=torch.int64),
        mask_probs=torch.rand(30, 28, 28, generator=random),
    )  # fmt: skip
    given = {"image_id": 1, "original_size": (75, 110), "category_ids": [7]}
    expected = to_coco_results(found, (100, 120), **given)
    monkeypatch.setattr(device_masks, "_PIXELS_AT_ONCE", at_once)
    monkeypatch.setattr(
        encode, "_encoded", lambda probs, at, kept, size: device_masks.encode_pasted(probs[kept], at, size)
    )
    assert len(expected) == 29
    got = to_coco_results(found, (100, 120), **given)
    assert [{k: v for k, v in r.items() if k != "segmentation"} for r in got] == [
        {k: v for k, v in r.items() if k != "segmentation"} for r in expected
    ]
    for a, b in zip(got, expected, strict=True):
        different = coco_mask.decode(a["segmentation"]) != coco_mask.decode(b["segmentation"])
        assert different.sum() <= 1  # a probability of one half, rounded to either side
