"""Images with their targets, one request at a time."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from srfgan.models.errors import InputError
from srfgan.models.instance_masks import InstanceMask, Polygons
from srfgan.models.structures import Target
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.copy_paste import draw_pasted
from srfgan_cli.data.drawn import corners, seen
from srfgan_cli.data.images import read_image
from srfgan_cli.data.mosaic import draw_centre, mosaic
from srfgan_cli.data.placement import draw_below
from srfgan_cli.data.ragged import offsets
from srfgan_cli.data.transforms import OriginalSize, ResizePolicy
from srfgan_cli.screen.console import stderr

Reading = tuple[Tensor, Target]

Request = tuple[int, int]
"""Position in the data set, and the seed of this one reading's random choices."""


@dataclass
class Sample:
    """One image as a model gets it.

    Attributes:
        image: (3, H, W) uint8 RGB, resized and flipped.
        target: boxes and masks in this image's pixels; no crowd regions. Empty without annotations.
        image_id: the data set's own id.
        original_size: height and width of the file's image.
        index: position in the data set.
    """

    image: Tensor
    target: Target
    image_id: int
    original_size: tuple[int, int]
    index: int


class DetectionDataset(Dataset[Sample]):
    """The images of a `CocoIndex`, resized.

    Args:
        index: the checked annotations.
        folder: the image folder.
        policy: resizing, flipping, and what else happens at random.
        masks: give targets with masks; instances without one are then left out.
        skip_empty: leave out images without any target (only crowds, or nothing), as detectron2 does in
            training, and images of a single pixel.

    Raises:
        InputError: masks are wanted, or needed for copy-paste, and there are none, or no image is left.
    """

    def __init__(
        self,
        index: CocoIndex,
        folder: Path,
        policy: ResizePolicy | OriginalSize,
        *,
        masks: bool,
        skip_empty: bool,
    ) -> None:
        self.index = index
        self.folder = folder
        self.policy = policy
        self.masks = masks
        if masks and len(index.boxes) and not index.has_mask.any():
            raise InputError(
                f"{index.path}: no annotation has a usable 'segmentation', but a detector with masks needs them;"
                " use a faster_rcnn preset, or add masks"
            )
        if policy.copy_paste and len(index.boxes) and not index.has_mask.any():
            raise InputError(
                f"{index.path}: no annotation has a usable 'segmentation', but data.copy_paste cuts objects out"
                " by their masks; leave it out, or add masks"
            )
        self._usable = ~index.crowd & index.has_mask if masks else ~index.crowd
        images = np.arange(len(index))
        if skip_empty:
            before = offsets(self._usable)
            targets = before[index.first[1:]] - before[index.first[:-1]]
            images = images[(targets > 0) & (index.sizes.max(axis=1) > 1)]
        self.images = torch.from_numpy(images)
        if not len(self.images):
            raise InputError(f"{index.path}: no image has an annotation to train on{_why_none(index)}")

    @property
    def categories(self) -> CategoryMap:
        """The data set's category map."""
        return self.index.categories

    @property
    def sizes(self) -> Tensor:
        """(N, 2) int64 height and width of the files' images, before resizing."""
        return torch.from_numpy(self.index.sizes)[self.images]

    @property
    def image_ids(self) -> list[int]:
        """The data set's own ids, in the order of the positions."""
        ids: list[int] = self.index.image_ids[self.images.numpy()].tolist()
        return ids

    def __len__(self) -> int:
        return len(self.images)

    @property
    def without_mask(self) -> list[int]:
        """Ids of the annotations, crowd regions apart, that are left out because they have no usable mask."""
        left_out = ~self.index.crowd & ~self._usable
        ids: list[int] = self.index.annotation_ids[left_out].tolist()
        return ids

    def tell_left_out(self, of_what: str) -> None:
        """Say on stderr which annotations are left out because they have no usable mask, if any are."""
        left_out = self.without_mask
        if left_out:
            ids = ", ".join(map(str, left_out[:10])) + (", ..." if len(left_out) > 10 else "")
            stderr.print(f"{len(left_out)} annotations without a usable mask are left out {of_what}: {ids}")

    def occurrences(self) -> tuple[Tensor, Tensor]:
        """(T,) int64 each: the position of every target's image, and the target's label."""
        place = np.full(len(self.index), -1)
        place[self.images.numpy()] = np.arange(len(self.images))
        positions = place.repeat(np.diff(self.index.first))
        kept = self._usable & (positions >= 0)
        return torch.from_numpy(positions[kept]), torch.from_numpy(self.index.labels[kept])

    def at_original_size(self) -> DetectionDataset:
        """The same images as their files have them."""
        twin = copy.copy(self)
        twin.policy = OriginalSize()
        return twin

    def image_path(self, position: int) -> Path:
        """The file of the image at this position."""
        return self.folder / self.index.file_name(int(self.images[position]))

    def read(self, position: int) -> tuple[Tensor, Target]:
        """The image at this position as its file has it, (3, H, W) uint8, and its target.

        The target has masks if the data set gives them, or its policy needs them.

        Raises:
            InputError: the file cannot be read or has not the size that the json says.
        """
        return self._read(position, self._usable)

    def __getitem__(self, request: Request) -> Sample:
        position, seed = request
        image, target = self._augmented(position, torch.Generator().manual_seed(seed))
        height, width = self.sizes[position].tolist()
        return Sample(
            image=image,
            target=target if self.masks else replace(target, masks=None),
            image_id=int(self.index.image_ids[int(self.images[position])]),
            original_size=(height, width),
            index=position,
        )

    def _augmented(self, position: int, generator: torch.Generator) -> Reading:
        """The image at this position after all that is drawn for it, of `generator` alone, and its target."""
        source = self.read(position)
        if _happens(self.policy.mosaic, generator):
            others = [self.read(draw_below(len(self), generator)) for _ in range(3)]
            height, width = self.sizes[position].tolist()
            centre = draw_centre((height, width), generator)
            source = mosaic([source, *others], (2 * height, 2 * width), centre)
        image, target = self._changed(source, generator)
        if _happens(self.policy.copy_paste, generator):
            other = self._read(draw_below(len(self), generator), self._usable & self.index.has_mask)
            image, target = draw_pasted(image, target, *self._changed(other, generator), generator)
        # Once more at the end, as resizing makes objects of a pixel thinner.
        return image, seen(target, (image.shape[1], image.shape[2])) if self.policy.needs_masks else target

    def _changed(self, source: Reading, generator: torch.Generator) -> Reading:
        image, target = source
        steps = self.policy.draw((image.shape[1], image.shape[2]), generator)
        return steps.image(image), steps.target(target)

    def _read(self, position: int, usable: np.ndarray) -> Reading:
        """As `read`, with the annotations of `usable` (A,) bool."""
        row = int(self.images[position])
        height, width = self.index.sizes[row].tolist()
        target = self._target(row, height, usable)
        # What a mask tells of beyond the image would come into sight beside it, in a turned one for instance.
        target = seen(target, (height, width)) if self.policy.needs_masks else target
        return read_image(self.image_path(position), (height, width)), target

    def _target(self, row: int, height: int, usable: np.ndarray) -> Target:
        every = self.index.rows(row)
        kept = np.array(every, np.int64)[usable[every.start : every.stop]]
        masks = None
        if self.masks or self.policy.needs_masks:
            masks = [self._outline(int(i), height) for i in kept]
        boxes, labels = self.index.boxes[kept], self.index.labels[kept]
        return Target(torch.from_numpy(boxes), torch.from_numpy(labels), masks)

    def _outline(self, annotation: int, height: int) -> InstanceMask:
        """Its mask; the rectangle of its box where it has none, as only detectors without masks meet it."""
        if self.index.has_mask[annotation]:
            return self.index.mask(annotation, height)
        return Polygons((corners(self.index.boxes[annotation].astype(np.float64)),))


def _happens(probability: float, generator: torch.Generator) -> bool:
    """Nothing is drawn for what never happens, so that what is drawn besides stays the same."""
    return probability > 0 and bool(torch.rand(1, generator=generator) < probability)


def _why_none(index: CocoIndex) -> str:
    """What became of the annotations, for a message."""
    listed, kept, crowds = index.report.annotations, len(index.boxes), int(index.crowd.sum())
    if not listed:
        return ""
    if crowds == listed:
        return f": all {listed} annotations are crowd regions (iscrowd 1)"
    parts = [
        f"{count} {what}"
        for count, what in (
            (listed - kept, "dropped by the check"),
            (crowds, "crowd regions (iscrowd 1)"),
            (int((~index.crowd & ~index.has_mask).sum()), "without a usable mask"),
        )
        if count
    ]
    return f": of {listed} annotations, {', '.join(parts)}; `srfgan data check` lists them"
