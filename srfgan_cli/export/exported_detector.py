"""An exported file as a detector: `srfgan export` has written into it what its labels and sizes are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srfgan.models.errors import InputError
from srfgan.models.structures import Detections
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.transforms import ResizePolicy
from srfgan_cli.export.graph import Runtime, split_batch
from srfgan_cli.export.onnx_file import open_session, require_onnx, runtime_of
from srfgan_cli.export.openvino_file import open_openvino


class ExportedDetector:
    """A file's graph on onnxruntime or, of an .xml, on OpenVINO; on the CPU.

    Attributes:
        path: the file.
        preset: the name of that which it was exported from.
        batch: how many images of one size it takes at a time; None: one.
        categories: what its labels mean; None where the exported weights did not say.
        resize: how images are resized before.
        lowest_score: that it gives.
        most: detections that it gives of an image.
        counted: detections of an image that its preset's scores count.
        has_masks, has_mask_scores: whether it gives those.
    """

    def __init__(self, path: Path) -> None:
        """Open the file `path`.

        Raises:
            InputError: its runtime is missing, or the file is none of ours.
        """
        self.path = path
        stored, self._run = _opened(path)
        self.preset = stored.get("preset", "")
        try:
            resize = json.loads(stored["resize"])
            records = json.loads(stored["categories"])
            given = json.loads(stored["input"])
            outputs = json.loads(stored["outputs"])
            self._smallest = int(given["smallest_side"])
            self.batch = None if len(given["shape"]) == 3 else int(given["shape"][0])
            self.resize = ResizePolicy((int(resize["short_side"]),), int(resize["max_side"]))
            self.lowest_score = float(stored.get("score_threshold", 0))
            # Files of older versions do not say: COCO's numbers.
            self.most = int(stored.get("detections_per_image", 100))
            self.counted = int(stored.get("max_detections", 100))
            self.has_masks, self.has_mask_scores = (name in outputs for name in ("masks", "mask_scores"))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}: holds a network, but not one that srfgan export has written") from None
        self.categories = None if records is None else CategoryMap.from_records(records, str(path))

    @property
    def required_categories(self) -> CategoryMap:
        """`categories`.

        Raises:
            InputError: the file does not say.
        """
        if self.categories is None:
            raise InputError(
                f"{self.path}: does not say what its labels mean; export it from a checkpoint of a training here."
            )
        return self.categories

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """As `Detector.detect`, on the CPU; images of one size go together, and black ones fill a batch up."""
        given = [self._large_enough(image).to(torch.float32) for image in images]
        if self.batch is None:
            return [_detections(self._run(image)) for image in given]
        found: dict[int, Detections] = {}
        for places in _of_one_size(given, self.batch):
            together = torch.zeros(self.batch, *given[places[0]].shape)
            for at, place in enumerate(places):
                together[at] = given[place]
            parts = split_batch(self._run(together), len(places))
            found |= dict(zip(places, map(_detections, parts), strict=True))
        return [found[place] for place in range(len(given))]

    def _large_enough(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if min(height, width) >= self._smallest:
            return image
        # Black pixels at the right and bottom, as every detector pads.
        padded = image.new_zeros(3, max(height, self._smallest), max(width, self._smallest))
        padded[:, :height, :width] = image
        return padded


def _opened(path: Path) -> tuple[Mapping[str, str], Runtime]:
    """What the file says of itself, and its graph."""
    if path.suffix == ".xml":
        return open_openvino(path)
    require_onnx()
    session = open_session(path)
    return session.get_modelmeta().custom_metadata_map, runtime_of(session)


def _of_one_size(images: Sequence[Tensor], count: int) -> list[list[int]]:
    """The places of images (3, H, W), those of one size together, `count` at most."""
    by_size: dict[torch.Size, list[int]] = {}
    for place, image in enumerate(images):
        by_size.setdefault(image.shape, []).append(place)
    return [places[at : at + count] for places in by_size.values() for at in range(0, len(places), count)]


def _detections(found: dict[str, Any]) -> Detections:
    return Detections(
        found["boxes"],
        found["scores"],
        found["labels"],
        mask_probs=found.get("masks"),
        mask_scores=found.get("mask_scores"),
    )
