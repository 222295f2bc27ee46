"""What a data set holds, in numbers: images, objects, classes, sizes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

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
        per_image: objects in an image: `median`, and `most`.
        crowded: images of more than 100 objects, which COCO's limit of detections cannot all find.
        classes: every category, the most frequent first.
    """

    images: int
    empty: int
    objects: int
    masks: int
    crowds: int
    image_sizes: dict[str, str]
    boxes: dict[str, int]
    per_image: dict[str, int]
    crowded: int
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
        crowded = (
            f"; {self.crowded} images with more than 100: raise --max-detections" if self.crowded else ""
        )
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
            ("in an image", f"median {self.per_image['median']}, most {self.per_image['most']}{crowded}"),
            ("classes", f"{len(self.classes)}{without}"),
        ]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
