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
from srfgan_cli.export.onnx_file import open_session, require_onnx, runtime_of


class OnnxDetector:
    """A file's graph on onnxruntime, one image at a time.

    Attributes:
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
            self._smallest = int(json.loads(stored["input"])["smallest_side"])
            self.resize = ResizePolicy((int(resize["short_side"]),), int(resize["max_side"]))
            self.lowest_score = float(stored.get("score_threshold", 0))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}: an ONNX file, but not one that srfgan export has written") from None
        self.categories = None if records is None else CategoryMap.from_records(records, str(path))
        self._run = runtime_of(session)

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """As `Detector.detect`, on the CPU."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Tensor) -> Detections:
        height, width = image.shape[-2:]
        if min(height, width) < self._smallest:
            # Black pixels at the right and bottom, as every detector pads.
            padded = image.new_zeros(3, max(height, self._smallest), max(width, self._smallest))
            padded[:, :height, :width] = image
            image = padded
        found: dict[str, Any] = self._run(image.to(torch.float32))
        return Detections(
            found["boxes"],
            found["scores"],
            found["labels"],
            mask_probs=found.get("masks"),
            mask_scores=found.get("mask_scores"),
        )
