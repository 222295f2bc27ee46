"""The built-in data set `shapes`: generated once, deterministic, in COCO layout.

For the demo, the tests and quick ablations. Its category ids have gaps on purpose, and both kinds of COCO
masks occur: polygons for shapes that nothing covers, run lengths for the others.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from srfgan.models.errors import InputError
from srfgan_cli.data.rle import encode_mask
from srfgan_cli.data.shapes_scene import KINDS, Instance, draw_scene
from srfgan_cli.machine.files import cache_folder

VERSION = 1
"""Part of the cache folder's name; goes up with every change of what is generated."""

CATEGORY_IDS = dict(zip(KINDS, (1, 2, 4, 7, 8, 13), strict=True))
"""Class name to category id."""

_SPLITS = {"train": 0, "val": 1}
_EXAMPLE = (2, 7)  # a scene of neither split that shows most classes


def shapes_folder(train: int, val: int, size: int) -> Path:
    """Where a data set of this many images of this side in pixels is kept."""
    return cache_folder() / f"shapes-{train}+{val}-{size}-v{VERSION}"


def ensure_shapes(train: int, val: int, size: int) -> Path:
    """The data set's folder, generated first if it is not there.

    It is written beside its place and renamed, so that a folder of the final name is always complete, also
    when several processes start at once.

    Args:
        train, val: number of images.
        size: their side in pixels.

    Raises:
        InputError: the cache folder cannot be written.
    """
    folder = shapes_folder(train, val, size)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for split, count in (("train", train), ("val", val)):
                _write_split(scratch, split, count, size)
            _publish(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{folder}: the built-in data set cannot be written ({error.strerror or error});"
            " free some space, or name another cache folder in XDG_CACHE_HOME"
        ) from None
    return folder


def example_image(size: int = 512) -> Tensor:
    """The built-in picture for when no image is given: a scene of `shapes`, (3, size, size) uint8 RGB."""
    pixels, _ = draw_scene(np.random.default_rng([VERSION, *_EXAMPLE]), size)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _publish(scratch: Path, folder: Path) -> None:
    scratch.chmod(0o755)
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster, with the same content
            raise


def _write_split(root: Path, split: str, count: int, size: int) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    folder = root / f"{split}2017"
    folder.mkdir()
    for number in range(count):
        pixels, instances = draw_scene(np.random.default_rng([VERSION, _SPLITS[split], number]), size)
        image_id = 10 * number + 1 + _SPLITS[split]
        name = f"{image_id:06d}.jpg"
        Image.fromarray(pixels).save(folder / name, quality=92, subsampling=0)
        images.append({"id": image_id, "file_name": name, "height": size, "width": size})
        for instance in instances:
            annotations.append(_annotation(instance, len(annotations) + 1, image_id))
    categories = [{"id": id_, "name": name} for name, id_ in CATEGORY_IDS.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = root / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def _annotation(instance: Instance, annotation_id: int, image_id: int) -> dict[str, Any]:
    segmentation: Any = encode_mask(instance.mask, (0, 0), instance.mask.shape)
    bbox = coco_mask.toBbox(segmentation).tolist()
    if instance.simple:
        segmentation = [instance.outline.round(2).ravel().tolist()]
        low, high = instance.outline.min(axis=0), instance.outline.max(axis=0)
        bbox = [*low.round(2).tolist(), *(high - low).round(2).tolist()]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": CATEGORY_IDS[instance.kind],
        "bbox": bbox,
        "area": float(instance.mask.sum()),
        "iscrowd": 0,
        "segmentation": segmentation,
    }
