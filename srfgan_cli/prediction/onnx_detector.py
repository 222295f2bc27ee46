"""An exported ONNX file as a detector: `srfgan export` has written into it what its labels and sizes are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srfgan.models.errors import InputError
from srfgan.models.structures import Detections
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.transforms import ResizePolicy
from srfgan_cli.export.graph import split_batch
from srfgan_cli.export.onnx_file import open_session, require_onnx, runtime_of


class OnnxDetector:
    """A file's graph on onnxruntime.

    Attributes:
        batch: how many images of one size it takes at a time; None: one.
        categories: what its labels mean; None where the exported weights did not say.
        resize: how images are resized before.
        lowest_score: that it gives.
    """

    def __init__(self, path: Path) -> None:
        """Open the file `path`.

        Raises:
            InputError: onnxruntime is missing, or the file is none of ours.
        """
        require_onnx()
        session = open_session(path)
        stored = session.get_modelmeta().custom_metadata_map
        try:
            resize = json.loads(stored["resize"])
            records = json.loads(stored["categories"])
            given = json.loads(stored["input"])
            self._smallest = int(given["smallest_side"])
            self.batch = None if len(given["shape"]) == 3 else int(given["shape"][0])
            self.resize = ResizePolicy((int(resize["short_side"]),), int(resize["max_side"]))
            self.lowest_score = float(stored.get("score_threshold", 0))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}: an ONNX file, but not one that srfgan export has written") from None
        self.categories = None if records is None else CategoryMap.from_records(records, str(path))
        self._run = runtime_of(session)

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
