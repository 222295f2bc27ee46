"""A split in YOLO's layout as records: one line of a text file for each object.

A line is `class x y width height`, the centre of a box and its size, or `class x1 y1 x2 y2 x3 y3 ...`, an outline; all
but the class in shares of the image's width and height. Lines of keypoints, a box and `x y visibility` of each point,
are refused: an even number of points would pass for an outline.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.images import is_image_name
from srfgan_cli.data.label_files import (
    LOST_LINK,
    NO_LABELS,
    Findings,
    Labelled,
    LabelledImage,
    image_sizes,
    read_text,
    to_records,
    walk_images,
)
from srfgan_cli.data.records import Records
from srfgan_cli.data.yolo_layout import NAME, Classes

_LINE = "label line that is neither `class x y width height` nor `class x1 y1 x2 y2 x3 y3 ...`"
_PIXELS = "coordinates beyond 1 in most lines: in pixels? they are shares of the image's width and height"
_BEYOND = 1.01


def read_yolo(base: Path, places: Sequence[Path], folder: Path, classes: Classes) -> Records:
    """Read a split.

    Args:
        base: the data set's folder, below which `images` in a path becomes `labels`.
        places: folders of images, or text files with the path of an image a line.
        folder: what names of images are relative to.
        classes: by number.

    Raises:
        InputError: files that cannot be read, lines that are mostly keypoints, or no image.
    """
    findings = Findings()

    def tell_lost(link: Path) -> None:
        findings.add(LOST_LINK, "dropped", _relative(link, base))

    paths = [path for place in places for path in _images_at(place, tell_lost)]
    for place in places:
        if place.is_dir():
            _find_orphans(place, base, paths, findings)
    images, beyond = [], []
    posed: list[str] = []
    lines = 0
    for path, size in zip(paths, image_sizes(paths, findings), strict=True):
        labels = labels_of(path, base)
        shown = _relative(labels, base)
        if size is None:
            continue
        objects: list[Labelled] = []
        if labels.is_file():
            text = read_text(labels)
            objects, far = _objects(text, shown, size, findings)
            beyond += far
            lines += sum(1 for line in text.splitlines() if line.strip())
            posed += [f"{shown}:{at}" for at, line in enumerate(text.splitlines(), 1) if _of_keypoints(line)]
        else:
            findings.add(NO_LABELS, "used as it is", _relative(path, base))
        images.append(LabelledImage(_relative(path, folder), shown, size, objects))
    if 2 * len(posed) > lines:
        raise InputError(
            f"{base / posed[0]}: most lines are a box and keypoints, `x y visibility` of each, whose labels are not "
            "read here; export boxes or outlines"
        )
    total = sum(len(image.objects) for image in images)
    if 2 * len(beyond) > total:
        for where in beyond:
            findings.add(_PIXELS, "used as it is", where)
    names = [{"id": number, "name": name} for number, name in classes]
    return to_records(places[0], NAME, CategoryMap.from_records(names, str(base)), images, findings)


def labels_of(image: Path, base: Path) -> Path:
    """The label file of an image: the last folder `images` below `base` becomes `labels`; without one, beside it."""
    parts = list(Path(_relative(image, base)).parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return (base / Path(*parts)).with_suffix(".txt")


def parse_line(text: str, size: tuple[int, int]) -> tuple[int, list[float], list[float] | None] | None:
    """A line's class, box (x, y, width, height) and outline in pixels; None for a line that is none.

    Args:
        text: the line.
        size: height and width of the image.
    """
    try:
        number, *values = [float(word) for word in text.split()]
    except ValueError:
        return None
    if not (0 <= number < 2**31 and number.is_integer()):
        return None
    height, width = size
    if len(values) == 4:
        x, y, w, h = values
        return int(number), [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height], None
    if len(values) < 6 or len(values) % 2:
        return None
    outline = [value * (height if place % 2 else width) for place, value in enumerate(values)]
    across, down = outline[0::2], outline[1::2]
    left, top = min(across), min(down)
    return int(number), [left, top, max(across) - left, max(down) - top], outline


def _of_keypoints(text: str) -> bool:
    """Whether a line is `class x y width height` and `x y visibility` of each point: 0, 1 or 2, and near the box.

    A point that is not there is at 0 0.
    """
    words = text.split()
    if len(words) < 8 or (len(words) - 5) % 3:
        return False
    try:
        if any(float(word) not in (0, 1, 2) for word in words[7::3]):
            return False
        x, y, w, h, *points = [float(word) for word in words[1:]]
    except ValueError:
        return False
    return all(
        (abs(px - x) <= w and abs(py - y) <= h) or px == py == 0
        for px, py in zip(points[0::3], points[1::3], strict=True)
    )


def _objects(
    text: str, labels: str, size: tuple[int, int], findings: Findings
) -> tuple[list[Labelled], list[str]]:
    """The objects of a file, and the lines with coordinates beyond 1."""
    objects, beyond = [], []
    for line, words in enumerate(text.splitlines(), start=1):
        if not words.strip():
            continue
        parsed = parse_line(words, size)
        if parsed is None:
            findings.add(_LINE, "dropped", f"{labels}:{line}: {words[:60]!r}")
            continue
        number, box, outline = parsed
        x, y, w, h = box
        objects.append(Labelled(line, number, (x, y, w, h), outline))
        if x + w > _BEYOND * size[1] or y + h > _BEYOND * size[0]:
            beyond.append(f"{labels}:{line}")
    return objects, beyond


def _images_at(place: Path, tell_lost: Callable[[Path], None]) -> Iterable[Path]:
    if place.is_dir():
        found = [place / name for name in walk_images(place, is_image_name, tell_lost)]
        if not found:
            raise InputError(f"{place}: the folder holds no image")
        return found
    lines = [line.strip() for line in read_text(place).splitlines()]
    return [Path(os.path.normpath(place.parent / line)) for line in lines if line]


def _find_orphans(place: Path, base: Path, images: Sequence[Path], findings: Findings) -> None:
    """Label files in the folder of labels that no image has."""
    folder = labels_of(place / "x.jpg", base).parent
    known = {labels_of(image, base) for image in images}
    for name in walk_images(folder, lambda name: name.endswith(".txt") and name != "classes.txt"):
        if folder / name not in known:
            findings.add("label file without an image", "dropped", _relative(folder / name, base))


def _relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder that it is below, however both are written; otherwise as it is."""
    written: tuple[Callable[[Path], str], ...] = (str, os.path.abspath, os.path.realpath)
    for way in written:
        inner, outer = Path(way(path)), Path(way(folder))
        if inner.is_relative_to(outer):
            return inner.relative_to(outer).as_posix()
    return str(path)
