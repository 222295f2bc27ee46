"""What goes into a detector besides images, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from srfgan.models.instance_masks import InstanceMask, scaled_mask
from srfgan.models.ops.transfer import rows_where


@dataclass
class Target:
    """Ground truth of one image.

    Attributes:
        boxes: (R, 4) float32 xyxy in pixels of the image as it is given to the model.
        labels: (R,) int64, contiguous and 0-based.
        masks: R instance masks on the CPU, or None for data without masks.
    """

    boxes: Tensor
    labels: Tensor
    masks: list[InstanceMask] | None = None

    def to(self, device: torch.device | str) -> Target:
        """The same target with boxes and labels on `device`; masks stay where they are."""
        return replace(
            self,
            boxes=self.boxes.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )

    def scaled(self, scale_x: float, scale_y: float) -> Target:
        """The target of the same image resized by (`scale_x`, `scale_y`)."""
        x0, y0, x1, y1 = self.boxes.unbind(1)
        boxes = torch.stack([x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y], dim=1)
        masks = None
        if self.masks is not None:
            masks = [scaled_mask(mask, scale_x, scale_y) for mask in self.masks]
        return Target(boxes, self.labels, masks)

    def moved(self, x: float, y: float) -> Target:
        """The target of the same image with all of it moved right by `x` and down by `y` pixels."""
        masks = None
        if self.masks is not None:
            masks = [mask.moved(x, y) for mask in self.masks]
        return Target(self.boxes + self.boxes.new_tensor([x, y, x, y]), self.labels, masks)


@dataclass
class Detections:
    """What a detector found in one image, best score first.

    Attributes:
        boxes: (R, 4) float32 xyxy in the given image's pixels.
        scores: (R,) float32 in 0..1.
        labels: (R,) int64, contiguous and 0-based.
        masks: (R, H, W) bool in the given image's size, or None for detectors without masks, and for
            results of `Detector.detect`, whose masks are not pasted yet.
        mask_probs: (R, M, M) float32 in 0..1 over each box, before pasting; None without masks.
        mask_scores: (R,) float32, what masks are ranked by instead of `scores`; not limited to 0..1. None for
            detectors that do not score their masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None
    mask_probs: Tensor | None = field(default=None, repr=False)
    mask_scores: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Detections:
        """All tensors on `device`."""
        return self._changed(lambda value: value.to(device))

    def select(self, index: Tensor) -> Detections:
        """The detections at `index`, (K,) int64 or (R,) bool; the latter makes a GPU's host wait once."""
        if index.dtype == torch.bool and not torch.compiler.is_exporting():
            (index,) = rows_where([index])
        return self._changed(lambda value: value[index])

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Detections:
        tensors = {name: change(value) for name, value in vars(self).items() if value is not None}
        return Detections(**tensors)
