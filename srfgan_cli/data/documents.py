"""A checked split as a COCO document, with the data set's own ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from srfgan_cli.data.coco import CocoIndex


def coco_document(index: CocoIndex, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The json of a split; objects of the check's fate `dropped` are not in it, and no key where none were.

    Args:
        index: the split.
        names: what its N images are called, if that is otherwise.
    """
    names = index.file_names() if names is None else names
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    ids = index.annotation_ids.tolist()
    for row, (image_id, (height, width)) in enumerate(
        zip(index.image_ids.tolist(), index.sizes.tolist(), strict=True)
    ):
        images.append({"id": image_id, "file_name": names[row], "height": height, "width": width})
        for place in index.rows(row):
            annotation = {
                "id": ids[place],
                "image_id": image_id,
                "category_id": index.categories.ids[int(index.labels[place])],
                "bbox": index.truth_boxes[place].tolist(),
                "area": float(index.areas[place]),
                "iscrowd": int(index.crowd[place]),
            }
            if index.has_mask[place]:
                annotation["segmentation"] = index.segmentation(place, [height, width])
            annotations.append(annotation)
    # Without the key, images are what results are written for; without annotations in it, ones without an object.
    told = {"annotations": annotations} if index.annotated else {}
    return {"images": images, **told, "categories": index.categories.to_records()}
