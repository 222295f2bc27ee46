"""An exported file as a detector: `srfgan export` has written into it what its labels and sizes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srfgan.models.errors import InputError
from srfgan.models.structures import Detections
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.sampler import of_one_size
from srfgan_cli.data.transforms import ResizePolicy
from srfgan_cli.export.contract import read_contract
from srfgan_cli.export.graph import BATCH_OUTPUT, OUTPUT_NAMES, Runtime, split_batch
from srfgan_cli.export.onnx_file import open_session, require_onnx, runtime_of
from srfgan_cli.export.openvino_file import open_openvino
from srfgan_cli.machine.files import in_one_line

_OUTPUTS = OUTPUT_NAMES[:3]


class ExportedDetector:
    """A file's graph on onnxruntime or, of an .xml, on OpenVINO; on the CPU.

    Attributes:
        path: the file.
        preset: the name of that which it was exported from.
        batch: how many images of one size it takes at a time; None: one.
        categories: what its labels mean; None where the exported weights did not say.
        resize: how images are resized before.
        lowest_score: that it gives.
        nms_iou: boxes of a class that overlap more are one object.
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
        said, self._run = _opened(path)
        stored = read_contract(said, path)
        self.preset = stored.preset
        self._outputs = {*_OUTPUTS, *stored.outputs}
        self._smallest = stored.input.smallest_side
        self.batch = None if len(stored.input.shape) == 3 else stored.input.shape[0]
        self.resize = ResizePolicy((stored.resize.short_side,), stored.resize.max_side)
        self.lowest_score, self.nms_iou = stored.score_threshold, stored.nms_iou
        self.most, self.counted = stored.detections_per_image, stored.max_detections
        self.has_masks, self.has_mask_scores = (name in stored.outputs for name in ("masks", "mask_scores"))
        records = stored.categories
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
        """As `Detector.detect`, on the CPU; images of one size go together, and black ones fill a batch up.

        Raises:
            InputError: the graph cannot be run, or gives something else than the file says.
        """
        given = [self._large_enough(image).to(torch.float32) for image in images]
        if self.batch is None:
            return [_detections(self._found(image)) for image in given]
        found: dict[int, Detections] = {}
        for places in of_one_size([image.shape for image in given], self.batch):
            together = torch.zeros(self.batch, *given[places[0]].shape)
            for at, place in enumerate(places):
                together[at] = given[place]
            parts = split_batch(self._found(together), len(places))
            found |= dict(zip(places, map(_detections, parts), strict=True))
        return [found[place] for place in range(len(given))]

    def _found(self, image: Tensor) -> dict[str, Tensor]:
        """What the graph gives of an image (3, H, W) or a batch of them, checked."""
        try:
            found = self._run(image)
        except MemoryError:
            raise
        except Exception as error:  # of types that onnxruntime does not name
            shape = " x ".join(map(str, image.shape))
            raise InputError(
                f"{self.path}: cannot be run on a float32 image of {shape} ({in_one_line(error)}); export it anew"
            ) from None
        problem = _problem(found, self._outputs, self.categories)
        if problem:
            raise InputError(f"{self.path}: {problem}")
        return found

    def _large_enough(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if min(height, width) >= self._smallest:
            return image
        # Black, at the right and bottom. Detectors pad less, and with their mean colour: they find a little else.
        padded = image.new_zeros(3, max(height, self._smallest), max(width, self._smallest))
        padded[:, :height, :width] = image
        return padded


def _opened(path: Path) -> tuple[Mapping[str, str], Runtime]:
    """What the file says of itself, and its graph."""
    if path.suffix.lower() == ".xml":
        return open_openvino(path)
    require_onnx()
    session = open_session(path)
    return session.get_modelmeta().custom_metadata_map, runtime_of(session)


def _problem(found: Mapping[str, Tensor], names: set[str], categories: CategoryMap | None) -> str | None:
    """What is wrong with a graph's outputs, or None: others may have changed the graph, or how it computes."""
    lacking = sorted(names - found.keys())
    if lacking:
        return f"the graph gives no {lacking[0]}, but {', '.join(found)}; export it anew"
    count = len(found["scores"]) if found["scores"].ndim else 0
    cells = found["masks"].shape[-1] if "masks" in names else 0
    for name in sorted(names):
        value, shape = found[name], {"boxes": (count, 4), "masks": (count, cells, cells)}.get(name, (count,))
        whole = name in ("labels", BATCH_OUTPUT)
        if tuple(value.shape) != shape or value.is_floating_point() == whole:
            kind = "whole numbers" if whole else "floating-point numbers"
            return f"the graph's {name} are {tuple(value.shape)} {value.dtype}, not {shape} {kind}; export it anew"
        if not value.isfinite().all():
            return (
                f"the graph's {name} are not finite numbers: networks in INT8 or float16 can overflow; export it in "
                "float32, or calibrate it again"
            )
    labels = found["labels"]
    if categories is not None and len(labels) and not 0 <= labels.min() <= labels.max() < len(categories):
        return (
            f"the graph gives labels from {int(labels.min())} to {int(labels.max())}, but the file names "
            f"{len(categories)} categories; export it anew"
        )
    return None


def _detections(found: dict[str, Any]) -> Detections:
    return Detections(
        found["boxes"],
        found["scores"],
        found["labels"],
        mask_probs=found.get("masks"),
        mask_scores=found.get("mask_scores"),
    )
