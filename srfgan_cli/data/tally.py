"""Counting what the usable annotations of a data set amount to."""

from __future__ import annotations

import numpy as np

from srfgan_cli.data.check import Checked
from srfgan_cli.data.overview import ClassCount, Overview
from srfgan_cli.data.records import Records

_MOST_FOUND = 100  # COCO's limit of detections per image
_SIZES = (0, 32**2, 96**2, np.inf)  # COCO's, in pixels


def tally(records: Records, checked: Checked) -> Overview:
    """Count what `checked` keeps of `records`."""
    objects = checked.keep & ~records.crowd
    rows, labels = checked.image_rows[objects], checked.labels[objects]
    per_image = np.bincount(rows, minlength=len(records.image_ids))
    count = len(records.categories)
    per_class = np.bincount(labels, minlength=count)
    seen = np.unique(np.stack([labels, rows], axis=1), axis=0)
    images_of = np.bincount(seen[:, 0], minlength=count)
    corners = checked.boxes[objects]
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    categories = zip(records.categories.ids, records.categories.names, per_class, images_of, strict=True)
    classes = [ClassCount(id_, name, int(n), int(images)) for id_, name, n, images in categories]
    return Overview(
        images=len(records.image_ids),
        empty=len(records.image_ids) - len(np.unique(rows)),
        objects=int(objects.sum()),
        masks=int((objects & checked.masks.has_mask).sum()),
        crowds=int((checked.keep & records.crowd).sum()),
        image_sizes=_image_sizes(records.sizes),
        boxes=count_by_size(areas),
        per_image={"median": int(np.median(per_image)), "most": int(per_image.max())},
        crowded=int((per_image > _MOST_FOUND).sum()),
        classes=tuple(sorted(classes, key=lambda entry: -entry.objects)),
    )


def count_by_size(areas: np.ndarray) -> dict[str, int]:
    """How many objects of areas (G,) in pixels are `small`, `medium` and `large` to COCO."""
    return dict(zip(("small", "medium", "large"), np.histogram(areas, _SIZES)[0].tolist(), strict=True))


def _image_sizes(sizes: np.ndarray) -> dict[str, str]:
    order = np.argsort(sizes.astype(np.float64).prod(axis=1), kind="stable")
    places = {"smallest": 0, "median": len(order) // 2, "largest": len(order) - 1}
    return {name: "{1} x {0}".format(*sizes[order[place]].tolist()) for name, place in places.items()}
