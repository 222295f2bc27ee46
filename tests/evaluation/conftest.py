"""A data set of four tiny images in COCO layout, with what evaluation has to cope with."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from srfgan_cli.data.open import open_split
from srfgan_cli.presets.config import DataConfig


def square(x, y, side):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def blob(height, width, x, y, side):
    pixels = np.zeros((height, width), np.uint8, order="F")
    pixels[y : y + side, x : x + side] = 1
    pixels[y, x] = 0
    encoded = coco_mask.encode(pixels)
    return {"size": [height, width], "counts": encoded["counts"].decode()}


@pytest.fixture
def tiny_root(tmp_path):
    """Polygons, an RLE, a crowd, a box without a mask, an empty image, an unusable annotation; ids with gaps."""
    sizes = {4: (48, 64), 9: (64, 48), 10: (64, 64), 31: (40, 40)}
    annotation = {"iscrowd": 0, "area": 100.0}
    annotations = [
        {"image_id": 4, "category_id": 2, "bbox": [4, 4, 10, 10], "segmentation": [square(4, 4, 10), [1, 2, 3, 4]]},
        {"image_id": 4, "category_id": 70, "bbox": [20, 8, 30, 30], "segmentation": [square(20, 8, 30)]},
        {"image_id": 9, "category_id": 70, "bbox": [6, 30, 20, 20], "segmentation": blob(64, 48, 6, 30, 20)},
        {"image_id": 10, "category_id": 2, "bbox": [0, 0, 64, 32], "iscrowd": 1,
         "segmentation": {"size": [64, 64], "counts": [0, *[32, 32] * 64]}},
        {"image_id": 10, "category_id": 2, "bbox": [30, 40, 12, 12], "segmentation": []},
        {"image_id": 10, "category_id": 2, "bbox": [5, 5, -3, 10], "segmentation": [square(5, 5, 3)]},
    ]  # fmt: skip
    document = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": h, "width": w} for i, (h, w) in sizes.items()
        ],
        "categories": [{"id": 2, "name": "cat"}, {"id": 70, "name": "dog"}],
        "annotations": [{**annotation, **a, "id": number} for number, a in enumerate(annotations)],
    }
    rng = np.random.default_rng(0)
    for folder in ("val2017", "test2017"):
        (tmp_path / folder).mkdir()
        for i, (h, w) in sizes.items():
            Image.fromarray(rng.integers(0, 255, (h, w, 3), np.uint8)).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(document))
    del document["annotations"]
    (tmp_path / "annotations/image_info_test-dev2017.json").write_text(json.dumps(document))
    return tmp_path


@pytest.fixture
def open_tiny(tiny_root):
    """Opens a split of `tiny_root`, images resized to twice their size."""
    config = DataConfig(test_short_side=96, test_max_side=128)
    return lambda split: open_split(config, tiny_root, split, training=False, masks=False)
