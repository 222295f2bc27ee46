"""What a data set holds, in numbers: images, objects, classes, sizes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from srfgan_cli.data.check import Checked
from srfgan_cli.data.records import Records

_SMALL, _LARGE = 32**2, 96**2  # COCO's, in pixels
_CLASSES_SHOWN = 30


@dataclass(frozen=True)
class ClassCount:
    """Objects of one category, and the images that have any."""

    id: int
    name: str
    objects: int
    images: int


@dataclass(frozen=True)
class Overview:
    """What the usable annotations of one file amount to; objects are annotations without crowd regions.

    Attributes:
        images: all images.
        empty: images without an object.
        objects: annotations that a box detector trains on.
        masks: those with a usable mask.
        crowds: crowd regions.
        image_sizes: "width x height" of the smallest, the median and the largest image by area; "" without one.
        boxes: objects by the area of their box: `small` below 32^2 pixels, `medium`, `large` from 96^2.
        classes: every category, the most frequent first.
    """

    images: int
    empty: int
    objects: int
    masks: int
    crowds: int
    image_sizes: dict[str, str]
    boxes: dict[str, int]
    classes: tuple[ClassCount, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as plain data; adds `empty_share`, 0 to 1."""
        return {**asdict(self), "empty_share": round(self.empty / self.images, 4)}

    def table(self) -> RenderableType:
        """The same for a terminal."""
        facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, fact in self._facts():
            facts.add_row(name, fact)
        classes = Table("class", box=None, padding=(0, 2, 0, 0))
        for heading in ("objects", "share", "images"):
            classes.add_column(heading, justify="right")
        for entry in self.classes[:_CLASSES_SHOWN]:
            share = _percent(entry.objects, self.objects)
            classes.add_row(entry.name, str(entry.objects), share, str(entry.images))
        rest = self.classes[_CLASSES_SHOWN:]
        if rest:
            more = sum(entry.objects for entry in rest)
            classes.add_row(f"{len(rest)} more classes", str(more), _percent(more, self.objects), "")
        return Group(facts, classes)

    def _facts(self) -> list[tuple[str, str]]:
        sizes = ", ".join(f"{name} {size}" for name, size in self.image_sizes.items())
        boxes = ", ".join(
            f"{name} {count} ({_percent(count, self.objects)})" for name, count in self.boxes.items()
        )
        crowds = f", and {self.crowds} crowd regions" if self.crowds else ""
        absent = sum(not entry.objects for entry in self.classes)
        without = f", {absent} without an object" if absent else ""
        return [
            (
                "images",
                f"{self.images}, {self.empty} ({_percent(self.empty, self.images)}) without an object",
            ),
            ("image sizes", sizes),
            ("objects", f"{self.objects}, {self.masks} with a mask{crowds}"),
            ("boxes", boxes),
            ("classes", f"{len(self.classes)}{without}"),
        ]


def overview(records: Records, checked: Checked) -> Overview:
    """Count what `checked` keeps of `records`."""
    objects = checked.keep & ~records.crowd
    rows, labels = checked.image_rows[objects], checked.labels[objects]
    count = len(records.categories)
    per_class = np.bincount(labels, minlength=count)
    seen = np.unique(np.stack([labels, rows], axis=1), axis=0)
    images_of = np.bincount(seen[:, 0], minlength=count)
    corners = checked.boxes[objects]
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    small, large = int((areas < _SMALL).sum()), int((areas >= _LARGE).sum())
    categories = zip(records.categories.ids, records.categories.names, per_class, images_of, strict=True)
    classes = [ClassCount(id_, name, int(n), int(images)) for id_, name, n, images in categories]
    return Overview(
        images=len(records.image_ids),
        empty=len(records.image_ids) - len(np.unique(rows)),
        objects=int(objects.sum()),
        masks=int((objects & checked.masks.has_mask).sum()),
        crowds=int((checked.keep & records.crowd).sum()),
        image_sizes=_image_sizes(records.sizes),
        boxes={"small": small, "medium": len(areas) - small - large, "large": large},
        classes=tuple(sorted(classes, key=lambda entry: -entry.objects)),
    )


def _image_sizes(sizes: np.ndarray) -> dict[str, str]:
    order = np.argsort(sizes.astype(np.float64).prod(axis=1), kind="stable")
    places = {"smallest": 0, "median": len(order) // 2, "largest": len(order) - 1}
    return {name: "{1} x {0}".format(*sizes[order[place]].tolist()) for name, place in places.items()}


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
