import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}]


class TinySet:
    """A data set in COCO layout that a test changes and then writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.content = {
            "images": [image(1), image(2, height=24, width=16), image(5)],
            "annotations": [box(10, 1, 3), box(11, 2, 90), box(12, 5, 90)],
            "categories": [dict(category) for category in CATEGORIES],
        }

    @property
    def json(self) -> Path:
        return self.root / "annotations" / "instances_train2017.json"

    @property
    def images(self) -> Path:
        return self.root / "train2017"

    def write(self, split: str = "train") -> Path:
        """Write json and images (noise, the same every time); returns the json's path."""
        folder = self.root / f"{split}2017"
        folder.mkdir(parents=True, exist_ok=True)
        for record in self.content["images"]:
            rng = np.random.default_rng(abs(record["id"]))
            pixels = rng.integers(0, 256, (max(1, record["height"]), max(1, record["width"]), 3), np.uint8)
            Image.fromarray(pixels).save(folder / record["file_name"])
        path = self.root / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(self.content))
        return path

    def objects(self, image_id: int) -> list[tuple[int, str, list[float]]]:
        """Number and name of the class, and the box, of each object of an image."""
        names = [category["name"] for category in self.content["categories"]]
        ids = [category["id"] for category in self.content["categories"]]
        found = [record for record in self.content["annotations"] if record["image_id"] == image_id]
        places = [ids.index(record["category_id"]) for record in found]
        return [(place, names[place], record["bbox"]) for place, record in zip(places, found, strict=True)]

    def write_yolo(self, root: Path, *folders: str) -> Path:
        """The same in YOLO's layout, once a folder of images; returns the `data.yaml`."""
        self.write()
        for folder in folders:
            labels = root / folder.replace("images", "labels")
            labels.mkdir(parents=True)
            shutil.copytree(self.images, root / folder)
            for record in self.content["images"]:
                width, height = record["width"], record["height"]
                lines = [
                    f"{number} {(x + w / 2) / width!r} {(y + h / 2) / height!r} {w / width!r} {h / height!r}"
                    for number, _, (x, y, w, h) in self.objects(record["id"])
                ]
                (labels / f"{Path(record['file_name']).stem}.txt").write_text("\n".join(lines))
        names = ", ".join(category["name"] for category in self.content["categories"])
        splits = "".join(
            f"{split}: ../{folder}\n" for split, folder in zip(("train", "val"), folders, strict=False)
        )
        (root / "data.yaml").write_text(f"{splits}nc: {len(self.content['categories'])}\nnames: [{names}]\n")
        return root / "data.yaml"

    def write_voc(self, images: Path, labels: Path) -> None:
        """The same as files of Pascal VOC."""
        self.write()
        shutil.copytree(self.images, images)
        labels.mkdir(parents=True, exist_ok=True)
        for record in self.content["images"]:
            objects = "".join(
                f"<object>\n<name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
                f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>\n"
                for _, name, (x, y, w, h) in self.objects(record["id"])
            )
            size = f"<size><width>{record['width']}</width><height>{record['height']}</height></size>"
            path = labels / f"{Path(record['file_name']).stem}.xml"
            path.write_text(f"<annotation>\n{size}\n{objects}</annotation>\n")


def image(id_, *, height=20, width=30):
    return {"id": id_, "file_name": f"{id_}.png", "height": height, "width": width}


def box(id_, image_id, category_id, bbox=(2, 3, 8, 10), segmentation=None, **more):
    x, y, w, h = bbox
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]] if segmentation is None else segmentation
    return {
        "id": id_,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(bbox),
        "area": w * h,
        "iscrowd": 0,
        "segmentation": outline,
    } | more


@pytest.fixture
def tiny(tmp_path):
    return TinySet(tmp_path / "set")


@pytest.fixture
def make_box():
    return box


@pytest.fixture
def make_image():
    return image
