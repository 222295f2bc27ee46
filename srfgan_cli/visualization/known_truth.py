"""The ground truth of image files that lie in a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from srfgan.models.errors import InputError
from srfgan.models.ops.boxes import Size
from srfgan.models.structures import Target
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.split_files import Layout, SplitFiles
from srfgan_cli.screen.console import stderr
from srfgan_cli.visualization.agreement import Truth
from srfgan_cli.visualization.truth import as_detections

_NAMED = 10
"""How many images without truth are named."""


@dataclass(frozen=True)
class KnownTruth:
    """The annotations of the images in question.

    Attributes:
        categories: the data set's.
        places: of each image that has annotations, its split's and its row there.
    """

    categories: CategoryMap
    places: dict[Path, tuple[CocoIndex, int]]

    def size(self, image: Path) -> Size | None:
        """Height and width of an image as its annotations know it; None for one that has none."""
        if image not in self.places:
            return None
        index, row = self.places[image]
        height, width = index.sizes[row].tolist()
        return height, width

    def truth(self, image: Path, *, masks: bool) -> Truth:
        """The objects and crowd regions of one of the images.

        Args:
            image: one of `places`.
            masks: with outlines, if all of the image's objects have one.
        """
        index, row = self.places[image]
        every = np.array(index.rows(row), np.int64)
        crowd = index.crowd[every]
        chosen, crowds = every[~crowd], every[crowd]
        height, width = index.sizes[row].tolist()
        outlines = None
        if masks and index.has_mask[chosen].all():
            outlines = [index.mask(annotation, height) for annotation in chosen.tolist()]
        target = Target(*_tensors(index, chosen), outlines)
        return Truth(as_detections(target, (height, width)), *_tensors(index, crowds))


def open_truth(layout: Layout, images: Sequence[Path]) -> KnownTruth:
    """The annotations of images, in whichever splits they are listed; tells which of them have none.

    Args:
        layout: where the data set's splits are.
        images: files in one folder.

    Raises:
        InputError: none of the images is one of the data set's annotated ones.
    """
    if not images:
        raise InputError(
            "For the truth of a data set, name an image of it, or a folder of them, with --image."
        )
    known: KnownTruth | None = None
    searched: list[SplitFiles] = []
    # Several splits may have one folder of images, as lists of Pascal VOC and YOLO do.
    for files in layout.splits.values():
        left = [image for image in images if known is None or image not in known.places]
        if not left or not _place(images[0]).is_relative_to(files.images.resolve()):
            continue
        index, rows = _listed(files, left)
        if rows and (known is None or index.categories == known.categories):
            before = {} if known is None else known.places
            known = KnownTruth(
                index.categories, before | {image: (index, row) for image, row in rows.items()}
            )
            searched.append(files)
    if known is None:
        folders = ", ".join(f"{files.images.name}/" for files in layout.splits.values())
        raise InputError(f"{images[0]} is no annotated image of the data set's folders ({folders}).")
    _tell_unknown([image.name for image in images if image not in known.places], searched)
    return known


def _listed(files: SplitFiles, images: Sequence[Path]) -> tuple[CocoIndex, dict[Path, int]]:
    """A split's annotations, and the rows of those of the images that have some there."""
    index = CocoIndex.of(files.read(), check=files.check)
    if not index.annotated:
        return index, {}
    folder = files.images.resolve()
    by_place = {Path(os.path.normpath(folder / name)): row for row, name in enumerate(index.file_names())}
    places = {image: _place(image) for image in images}
    return index, {image: by_place[place] for image, place in places.items() if place in by_place}


def _tell_unknown(names: Sequence[str], searched: Sequence[SplitFiles]) -> None:
    """Say which images have no truth."""
    if names:
        listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        where = " or ".join(str(files.path) for files in searched)
        stderr.print(f"Not in {where}, so without truth: {len(names)} ({listed})", style="yellow")


def _tensors(index: CocoIndex, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Boxes and labels of some annotations."""
    return torch.from_numpy(index.boxes[rows]), torch.from_numpy(index.labels[rows])


def _place(image: Path) -> Path:
    """Where a file is listed: links above it are followed, it itself may be one."""
    return image.parent.resolve() / image.name
