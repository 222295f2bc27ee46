"""`srfgan data convert`: a data set of any layout that is read, written in COCO's or YOLO's."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from contourpy import contour_generator

from srfgan.models.errors import InputError
from srfgan.models.instance_masks import MaskPatch
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.documents import coco_document
from srfgan_cli.data.new_folder import check_new, place_images, write_coco, write_text
from srfgan_cli.data.split_files import Layout, Split
from srfgan_cli.screen.console import stderr

Format = Literal["coco", "yolo"]

CROWDS = "crowd regions (or difficult objects) left out"
HOLES = "holes in masks filled"
TRACED = "run-length masks approximated by outlines"
JOINED = "outlines of several parts joined by lines without width"


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
    splits = {
        split: (CocoIndex.of(files.read(), files.images, check=files.check), files.images)
        for split, files in layout.splits.items()
    }
    for split, lacking in layout.absent.items():
        stderr.print(f"not converted: {split}, {lacking}")
    if to == "yolo":
        _check_for_yolo(splits)
    lost: Counter[str] = Counter()
    for split, (index, folder) in splits.items():
        index.report.tell()
        images = destination / (f"{split}2017" if to == "coco" else f"images/{split}")
        place_images(index, folder, images, link=link)
        if to == "coco":
            write_coco(coco_document(index), destination, split)
        else:
            _write_labels(index, destination / "labels" / split, lost)
    if to == "yolo":
        _describe(splits, destination)
        stderr.print("YOLO's labels have no ids and no areas: ids of images and annotations are not kept.")
        for what, count in lost.items():
            stderr.print(f"{count} {what}")


def yolo_lines(index: CocoIndex, row: int, lost: Counter[str]) -> Iterator[str]:
    """The lines of the label file of the image at this row; counts in `lost` what they cannot say."""
    height, width = index.sizes[row].tolist()
    for place in index.rows(row):
        if index.crowd[place]:
            lost[CROWDS] += 1
            continue
        outline = _outline(index, place, height, lost)
        if outline is None:
            x, y, w, h = index.truth_boxes[place].tolist()
            values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
        else:
            values = (outline / [width, height]).ravel().tolist()
        yield " ".join([str(int(index.labels[place])), *(f"{value:.12g}" for value in values)])


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


def _check_for_yolo(splits: dict[Split, tuple[CocoIndex, Path]]) -> None:
    indexes = [index for index, _ in splits.values()]
    for index in indexes:
        if index.categories != indexes[0].categories:
            raise InputError(
                f"{index.path} has other classes than {indexes[0].path}; YOLO has one list for all splits"
            )
        stems = Counter(os.path.splitext(index.file_name(row))[0] for row in range(len(index)))  # noqa: PTH122
        stem, times = stems.most_common(1)[0]
        if times > 1:
            raise InputError(
                f"{index.path}: {times} images are called {stem}.*, which YOLO gives one label file"
            )


def _write_labels(index: CocoIndex, folder: Path, lost: Counter[str]) -> None:
    for row in range(len(index)):
        path = (folder / index.file_name(row)).with_suffix(".txt")
        write_text(path, "".join(f"{line}\n" for line in yolo_lines(index, row, lost)))


def _describe(splits: dict[Split, tuple[CocoIndex, Path]], destination: Path) -> None:
    names = next(iter(splits.values()))[0].categories.names
    description = {split: f"images/{split}" for split in splits} | {"nc": len(names), "names": list(names)}
    write_text(destination / "data.yaml", yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
