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
from srfgan_cli.data.split_files import Layout
from srfgan_cli.screen.console import stderr
from srfgan_cli.visualization.agreement import Truth
from srfgan_cli.visualization.truth import as_detections

_NAMED = 10
"""How many images without truth are named."""


@dataclass(frozen=True)
class KnownTruth:
    """The annotations of one split, and the rows of the images in question."""

    index: CocoIndex
    rows: dict[Path, int]

    @property
    def categories(self) -> CategoryMap:
        """The data set's."""
        return self.index.categories

    def size(self, image: Path) -> Size | None:
        """Height and width of an image as its annotations know it; None for one that has none."""
        if image not in self.rows:
            return None
        height, width = self.index.sizes[self.rows[image]].tolist()
        return height, width

    def truth(self, image: Path, *, masks: bool) -> Truth:
        """The objects and crowd regions of one of the images.

        Args:
            image: one of `rows`.
            masks: with outlines, if all of the image's objects have one.
        """
        row, index = self.rows[image], self.index
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
    """The annotations of the split that images lie in; tells which of them have none.

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
    splits = list(layout.splits.values())
    for files in splits:
        folder = files.images.resolve()
        if not _place(images[0]).is_relative_to(folder):
            continue
        index = CocoIndex.of(files.read(), check=files.check)
        if not index.annotated:
            break
        by_place = {Path(os.path.normpath(folder / index.file_name(row))): row for row in range(len(index))}
        rows = {image: by_place[_place(image)] for image in images if _place(image) in by_place}
        if not rows:
            break
        unknown = [image.name for image in images if image not in rows]
        if unknown:
            listed = ", ".join(unknown[:_NAMED]) + (", ..." if len(unknown) > _NAMED else "")
            stderr.print(f"Not in {files.path}, so without truth: {len(unknown)} ({listed})", style="yellow")
        return KnownTruth(index, rows)
    folders = ", ".join(f"{files.images.name}/" for files in splits)
    raise InputError(f"{images[0]} is no annotated image of the data set's folders ({folders}).")


def _tensors(index: CocoIndex, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Boxes and labels of some annotations."""
    return torch.from_numpy(index.boxes[rows]), torch.from_numpy(index.labels[rows])


def _place(image: Path) -> Path:
    """Where a file is listed: links above it are followed, it itself may be one."""
    return image.parent.resolve() / image.name
