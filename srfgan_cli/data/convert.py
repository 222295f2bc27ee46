"""`srfgan data convert`: a data set of any layout that is read, written in COCO's or YOLO's."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from contourpy import contour_generator

from srfgan.models.errors import InputError
from srfgan.models.instance_masks import MaskPatch
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.documents import coco_document
from srfgan_cli.data.images import ImageError, image_suffixes, is_image_name, left_unturned
from srfgan_cli.data.new_folder import (
    check_new,
    index_to_copy,
    names_below,
    new_folder,
    place_images,
    write_coco,
    write_text,
)
from srfgan_cli.data.split_files import Layout, Split, SplitFiles
from srfgan_cli.data.yolo_labels import labels_of
from srfgan_cli.screen.console import stderr

Format = Literal["coco", "yolo"]

CROWDS = "crowd regions (or difficult objects) left out"
HOLES = "holes in masks filled"
TRACED = "run-length masks approximated by outlines"
JOINED = "outlines of several parts joined by lines without width"
CORNERS = "boxes of objects without masks, beside others' outlines, written as outlines of four corners"
UNANNOTATED = "images without annotations: to readers of YOLO's, ones without an object"
REDRAWN = "boxes that are not around their masks by a pixel or more: they become the masks' own"

_UPRIGHT: dict[int, Callable[[np.ndarray, int, int], np.ndarray]] = {
    5: lambda points, height, width: points[:, ::-1],
    6: lambda points, height, width: np.stack([height - points[:, 1], points[:, 0]], axis=1),
    7: lambda points, height, width: np.stack([height - points[:, 1], width - points[:, 0]], axis=1),
    8: lambda points, height, width: np.stack([points[:, 1], width - points[:, 0]], axis=1),
}
"""Where points (V, 2) of stored pixels are in the upright image, by EXIF orientation."""


@dataclass(frozen=True)
class _Part:
    """A split: its images are in `folder`, and called `names` in the new one."""

    split: Split
    index: CocoIndex
    folder: Path
    names: list[str]


def convert(layout: Layout, destination: Path, to: Format, *, link: bool) -> None:
    """Write every split of a data set anew, and say what the new format cannot express.

    Args:
        layout: where the splits are.
        destination: a new or empty folder.
        to: the format.
        link: hard links instead of copies of the images.

    Raises:
        InputError: data that cannot be used, splits of different classes, or a folder that cannot be written.
    """
    check_new(destination)
    parts = [_part_of(split, files) for split, files in layout.splits.items()]
    for split, lacking in layout.absent.items():
        stderr.print(f"not converted: {split}, {lacking}")
    if to == "yolo":
        _check_for_yolo(parts)
    with new_folder(destination):
        _write(parts, destination, to, link=link)


def _write(parts: list[_Part], destination: Path, to: Format, *, link: bool) -> None:
    lost: Counter[str] = Counter()
    for part in parts:
        part.index.report.tell()
        images = destination / (f"{part.split}2017" if to == "coco" else f"images/{part.split}")
        place_images(part.index, part.names, part.folder, images, link=link)
        if to == "coco":
            write_coco(coco_document(part.index, part.names), destination, part.split)
        elif part.index.annotated:
            _write_labels(part, destination, images, lost)
        else:
            lost[f"{part.split} {UNANNOTATED}"] += len(part.names)
    if to == "yolo":
        _describe(parts, destination)
        stderr.print("YOLO's labels have no ids and no areas: ids of images and annotations are not kept.")
        for what, count in (+lost).items():
            stderr.print(f"{count} {what}")


def _part_of(split: Split, files: SplitFiles) -> _Part:
    index = index_to_copy(files)
    return _Part(split, index, files.images, names_below(index, files.images))


def yolo_lines(index: CocoIndex, row: int, lost: Counter[str], turn: int) -> Iterator[str]:
    """The lines of the label file of the image at this row.

    Args:
        index: the split.
        row: of the image.
        lost: counts what the lines cannot say.
        turn: the EXIF orientation that its annotations leave alone (`left_unturned`): whoever reads YOLO's files turns
            the image.
    """
    height, width = index.sizes[row].tolist()
    sides = [width, height] if turn == 1 else [height, width]
    places = np.array(index.rows(row), np.int64)
    objects = places[~index.crowd[places]]
    lost[CROWDS] += len(places) - len(objects)
    # Where one line is an outline, Ultralytics takes all of the file for such, and a box's four numbers for two points.
    as_outlines = bool(index.has_mask[objects].any())
    for place in objects.tolist():
        x, y, w, h = index.truth_boxes[place].tolist()
        outline = _outline(index, place, height, lost)
        if outline is not None:
            bounds = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
            lost[REDRAWN] += int((np.abs(bounds - [x, y, x + w, y + h]) >= 1).any())
        elif as_outlines:
            lost[CORNERS] += 1
            outline = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
        if outline is None:
            corners = _turned(np.array([[x, y], [x + w, y + h]]), height, width, turn)
            middle, extent = corners.sum(axis=0) / 2, np.abs(corners[1] - corners[0])
            values = (np.concatenate([middle / sides, extent / sides])).tolist()
        else:
            values = (_turned(outline, height, width, turn) / sides).ravel().tolist()
        yield " ".join([str(int(index.labels[place])), *(f"{value:.12g}" for value in values)])


def _turned(points: np.ndarray, height: int, width: int, turn: int) -> np.ndarray:
    return _UPRIGHT[turn](points, height, width) if turn in _UPRIGHT else points


def _outline(index: CocoIndex, place: int, height: int, lost: Counter[str]) -> np.ndarray | None:
    """One outline (V, 2) around an object's mask; None without a mask."""
    if not index.has_mask[place]:
        return None
    mask = index.mask(place, height)
    if isinstance(mask, MaskPatch):
        lost[TRACED] += 1
        parts, holes = traced(mask)
        lost[HOLES] += holes
    else:
        parts = list(mask.parts)
    if len(parts) > 1:
        lost[JOINED] += 1
    start = parts[0][:1]
    # Out to each part and back on the same line, which encloses nothing.
    joined = [parts[0], *(np.concatenate([start, part, part[:1]]) for part in parts[1:])]
    return np.concatenate(joined)


def traced(mask: MaskPatch) -> tuple[list[np.ndarray], int]:
    """Outlines (V, 2) of a mask's parts in the image's pixels, and how many holes they fill.

    They run between the pixels' centres and cut half a pixel off corners; their extent is the mask's.
    """
    lines = contour_generator(z=np.pad(mask.pixels, 1).astype(float)).lines(0.5)
    outlines = [np.asarray(line)[:-1] - 0.5 + mask.span[:2] for line in lines]
    signed = [_signed_area(outline) for outline in outlines]
    outer = np.sign(max(signed, key=abs))
    kept = [outline for outline, area in zip(outlines, signed, strict=True) if area * outer > 0]
    return kept, len(outlines) - len(kept)


def _signed_area(points: np.ndarray) -> float:
    x, y = points.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _check_for_yolo(parts: list[_Part]) -> None:
    for part in parts:
        index = part.index
        if index.categories != parts[0].index.categories:
            raise InputError(
                f"{index.path} has other classes than {parts[0].index.path}; YOLO has one list for all splits"
            )
        for row, name in enumerate(part.names):
            if not is_image_name(name.rpartition("/")[2]):
                raise InputError(
                    f"{index.path}: image {index.image_ids[row]} ({name}): in YOLO's layout the images are the files"
                    f" that end in one of {', '.join(sorted(image_suffixes()))} and do not begin with a dot; rename it"
                )
        stems = Counter(os.path.splitext(name)[0] for name in part.names)  # noqa: PTH122
        stem, times = stems.most_common(1)[0]
        if times > 1:
            raise InputError(
                f"{index.path}: {times} images are called {stem}.*, which YOLO gives one label file"
            )


def _write_labels(part: _Part, destination: Path, images: Path, lost: Counter[str]) -> None:
    for row, name in enumerate(part.names):
        size = (int(part.index.sizes[row, 0]), int(part.index.sizes[row, 1]))
        lines = yolo_lines(part.index, row, lost, _turn_of(images / name, size))
        write_text(labels_of(images / name, destination), "".join(f"{line}\n" for line in lines))


def _turn_of(image: Path, size: tuple[int, int]) -> int:
    try:
        return left_unturned(image, size)
    except ImageError:
        return 1  # it is copied as it is, and said to be broken by whatever reads the data set


def _describe(parts: list[_Part], destination: Path) -> None:
    names = parts[0].index.categories.names
    splits = {part.split: f"images/{part.split}" for part in parts}
    description = splits | {"nc": len(names), "names": list(names)}
    write_text(destination / "data.yaml", yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
