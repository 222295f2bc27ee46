"""What a detector found in one image, with the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from srfgan.models.errors import InputError
from srfgan.models.structures import Detections
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.rle import with_bytes


@dataclass(frozen=True)
class Prediction:
    """Detections in one image, best score first, on the CPU.

    Attributes:
        boxes: (R, 4) float32 xyxy in pixels of the image as it was given.
        scores: (R,) float32 in 0..1.
        labels: (R,) int64, positions in `categories`.
        size: height and width of the image.
        categories: the names and the data set's ids of all labels.
        mask_scores: (R,) float32, what masks are ranked by, of detectors that score them; else None.
        segmentations: each mask as COCO's compressed RLE, {"size": [H, W], "counts": str}; None without masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    size: tuple[int, int]
    categories: CategoryMap = field(repr=False)
    mask_scores: Tensor | None = field(default=None, repr=False)
    segmentations: list[dict[str, Any]] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def names(self) -> list[str]:
        """The class of each detection."""
        return [self.categories.names[label] for label in self.labels.tolist()]

    @property
    def each_mask(self) -> Sequence[Tensor] | None:
        """(H, W) bool of each detection, made when it is asked for; None for a detector without masks."""
        return None if self.segmentations is None else _Masks(self.segmentations)

    @property
    def masks(self) -> Tensor | None:
        """(R, H, W) bool, made anew each time: R x H x W bytes, column by column. None for a detector without masks."""
        if self.segmentations is None:
            return None
        if not self.segmentations:
            return torch.zeros(0, *self.size, dtype=torch.bool)
        return _decoded(self.segmentations)

    def select(self, index: Tensor | Sequence[int]) -> Prediction:
        """The detections at `index`: (K,) positions, in their order, or (R,) bool."""
        rows = torch.as_tensor(index)
        rows = rows.nonzero().flatten() if rows.dtype == torch.bool else rows.to(torch.int64)
        codes = self.segmentations
        return replace(
            self,
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            mask_scores=None if self.mask_scores is None else self.mask_scores[rows],
            segmentations=None if codes is None else [codes[row] for row in rows.tolist()],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: `size`, and for each detection `name`, `category_id`, `score`, `box` xyxy and, with
        masks, `segmentation`."""
        rows: list[dict[str, Any]] = [
            {"name": name, "category_id": self.categories.ids[label], "score": score, "box": box}
            for name, label, score, box in zip(
                self.names, self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True
            )
        ]
        for row, code in zip(rows, self.segmentations or [], strict=False):
            row["segmentation"] = code
        return {"size": list(self.size), "detections": rows}

    def to_detections(self, *, masks: bool = True) -> Detections:
        """As the detectors' own structure; with `masks` pasted, where there are any."""
        pasted = self.masks if masks else None
        return Detections(self.boxes, self.scores, self.labels, pasted, mask_scores=self.mask_scores)

    def to_supervision(self) -> Any:
        """As `supervision.Detections`, with `class_name` in its data, for that package's drawing and tracking.

        Raises:
            InputError: the package is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise InputError(
                f"to_supervision needs that package ({error}): pip install supervision"
            ) from None
        masks = self.masks
        return supervision.Detections(
            xyxy=self.boxes.numpy(),
            mask=None if masks is None or not len(masks) else masks.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )


class _Masks(Sequence[Tensor]):
    def __init__(self, codes: Sequence[dict[str, Any]]) -> None:
        self._codes = codes

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, row: Any) -> Any:
        return _decoded([self._codes[row]])[0]


def _decoded(codes: Sequence[dict[str, Any]]) -> Tensor:
    """(R, H, W) bool of RLE, column by column in memory."""
    decoded = coco_mask.decode([with_bytes(code) for code in codes])  # (H, W, R), in Fortran's order
    return torch.from_numpy(decoded.T).view(torch.bool).transpose(1, 2)
