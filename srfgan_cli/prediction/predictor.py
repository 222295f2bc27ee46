"""A detector that knows its classes and sizes: images of any kind in, named detections out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.structures import Detections
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.images import MAX_PIXELS
from srfgan_cli.data.sampler import of_one_size
from srfgan_cli.data.transforms import OriginalSize, ResizePolicy
from srfgan_cli.evaluation.encode import at_original_size
from srfgan_cli.evaluation.tta import MultiScale
from srfgan_cli.machine.precision import autocast, float32_products
from srfgan_cli.prediction.found import Prediction
from srfgan_cli.prediction.given import as_list, as_pixels
from srfgan_cli.prediction.tiles import Tile, cut, joined
from srfgan_cli.presets.config import Precision

T = TypeVar("T")

_LOWERED = threading.Lock()
"""Whoever lets a detector look below its own threshold: of two threads, the second would leave it at the first's."""


class Detects(Protocol):
    """What finds things: a `Detector`, a `MultiScale` one, or an exported file."""

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Detections in each of `images`, (3, H, W) uint8 RGB, in its own pixels, with masks as `mask_probs`."""


@dataclass(frozen=True)
class Predictor:
    """A detector ready for use, from `load_detector`.

    Attributes:
        model: what detects, in evaluation mode.
        categories: what its labels mean.
        resize: how images are resized before.
        device: where it computes.
        lowest_score: detections below it are never made, whatever threshold is asked for.
        nms_iou: boxes of a class that overlap more are one object; for tiles.
        precision: of the networks.
        max_pixels: larger image files are refused.
        batch_size: images that it takes at a time, whatever it is given; 1: as many as it is given.
    """

    model: Detects
    categories: CategoryMap
    resize: ResizePolicy | OriginalSize
    device: torch.device
    lowest_score: float = 0.0
    nms_iou: float = 0.5
    precision: Precision = "fp32"
    max_pixels: int = MAX_PIXELS
    batch_size: int = 1

    def predict(
        self,
        images: Any,
        *,
        score_threshold: float = 0.5,
        batch_size: int = 1,
        tiles: int | None = None,
        overlap: float = 0.2,
    ) -> list[Prediction]:
        """Detect in images.

        Args:
            images: one image or several, RGB: paths, PIL images, numpy arrays (H, W, 3), tensors (3, H, W) in 0..255.
            score_threshold: 0..1; detections below it are left out.
            batch_size: images, or tiles, at a time; of these, ones of the same size go through the networks together.
            tiles: look at large images in square parts of this many pixels, each resized as a whole image would be, and
                join what lies on seams; images that are no larger are seen whole.
            overlap: share of a tile that its neighbours see too, 0 to 0.9; more than most objects are wide.

        Returns:
            One `Prediction` for each image, in its original pixels.

        Raises:
            InputError: an image that cannot be read or is none (says which); numbers out of range.
        """
        check_options(score_threshold, batch_size, tiles, overlap)
        given = as_list(images)
        pixels = (as_pixels(image, f"images[{at}]", self.max_pixels) for at, image in enumerate(given))
        return [
            found
            for batch in batches(pixels, 1 if tiles else batch_size)
            for found in self.detect(batch, score_threshold, batch_size, tiles, overlap)
        ]

    def detect(
        self,
        images: Sequence[Tensor],
        score_threshold: float,
        batch_size: int,
        tiles: int | None,
        overlap: float,
    ) -> list[Prediction]:
        """As `predict`, of a batch of images, (3, H, W) uint8 RGB, that need no check."""
        if tiles is None:
            return self.whole(images, score_threshold)
        return [self.in_tiles(image, tiles, overlap, score_threshold, batch_size) for image in images]

    def whole(self, images: Sequence[Tensor], score_threshold: float) -> list[Prediction]:
        """Detections in a batch of images, (3, H, W) RGB in 0..255, of any sizes; those of one size go together."""
        resized = [self.resized(image) for image in images]
        found: dict[int, Detections] = {}
        with (
            torch.inference_mode(),
            float32_products(self.precision),
            autocast(self.device, self.precision),
            self._at(score_threshold),
        ):
            # Padded together, they would have other detections at their borders than alone.
            for places in of_one_size([image.shape for image in resized], len(resized)):
                found |= zip(places, self.model.detect([resized[place] for place in places]), strict=True)
        return [
            self._named(found[place], resized[place], image, score_threshold)
            for place, image in enumerate(images)
        ]

    def in_tiles(
        self, image: Tensor, tiles: int, overlap: float, score_threshold: float, batch_size: int
    ) -> Prediction:
        """Detections in one image, (3, H, W), seen in parts; see `predict`."""
        size = (image.shape[1], image.shape[2])
        parts = cut(size, tiles, overlap)
        found: list[tuple[Tile, Prediction]] = []
        for batch in batches(iter(parts), batch_size):
            seen = self.whole([tile.of(image) for tile in batch], score_threshold)
            found += zip(batch, seen, strict=True)
        return joined(found, size, self.nms_iou)

    def resized(self, image: Tensor) -> Tensor:
        """An image (3, H, W) at the size that `model` sees it."""
        place = self.resize.draw((image.shape[1], image.shape[2]), torch.Generator())
        return place.image(image)

    @contextmanager
    def _at(self, threshold: float) -> Iterator[None]:
        """The detector at a threshold below its own, where that is asked for."""
        detector = self.lowered(threshold)
        if detector is None:
            yield
            return
        with _LOWERED, detector.at_threshold(threshold):
            yield

    def lowered(self, threshold: float) -> Detector | None:
        """The detector that has to look below its own threshold for this one; None: it need not.

        Raises:
            InputError: an exported file, which cannot.
        """
        if threshold >= self.lowest_score:
            return None
        detector = self.model.detector if isinstance(self.model, MultiScale) else self.model
        if not isinstance(detector, Detector):
            raise InputError(
                f"the exported file gives no detections with scores below {self.lowest_score:g}, got "
                f"{threshold:g}; export it with --set model.inference.score_threshold={threshold:g}"
            )
        return detector

    def _named(self, found: Detections, seen: Tensor, image: Tensor, threshold: float) -> Prediction:
        size = (image.shape[1], image.shape[2])
        found = found.select(found.scores >= threshold)
        placed, codes = at_original_size(found, (seen.shape[1], seen.shape[2]), size)
        scores = placed.mask_scores
        return Prediction(
            placed.boxes,
            placed.scores.float(),
            placed.labels,
            size,
            self.categories,
            None if scores is None else scores.float(),
            codes,
        )


def check_options(score_threshold: float, batch_size: int, tiles: int | None, overlap: float) -> None:
    """Refuse what is out of range.

    Raises:
        InputError: says what, and its range.
    """
    for name, value in (("batch_size", batch_size), ("tiles", tiles)):
        if not (isinstance(value, Integral) or (value is None and name == "tiles")):
            raise InputError(f"{name} must be a whole number, got {value!r}")
    if not 0 <= score_threshold <= 1:
        raise InputError(f"score_threshold must be in 0..1, got {score_threshold:g}")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if tiles is not None and tiles < 64:
        raise InputError(f"tiles must be at least 64 pixels wide, got {tiles}")
    if not 0 <= overlap <= 0.9:
        raise InputError(f"overlap must be in 0..0.9, got {overlap:g}")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of `size`, the last one perhaps shorter; an `InputError` comes after those before it."""
    batch: list[T] = []
    failed: InputError | None = None
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except InputError as error:
        failed = error
    if batch:
        yield batch
    if failed is not None:
        raise failed
