"""Multi-scale testing (test-time augmentation): one image at several sizes, mirrored and not, as detectron2 does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from srfgan.models.config import InferenceConfig, ModelConfig
from srfgan.models.detector import Detector, MaskedHead
from srfgan.models.ops.boxes import Size, clip_boxes
from srfgan.models.ops.nms import nms_within_classes
from srfgan.models.ops.transfer import rows_where
from srfgan.models.structures import Detections
from srfgan_cli.data.placement import Placement, resized
from srfgan_cli.presets.config import TTAConfig

Pyramid = dict[str, Tensor]

_LOWEST_SCORE = 1e-8
"""Of a merged detection; what a view contributes has passed the detector's own threshold already."""


class MultiScale(nn.Module):
    """A detector in evaluation mode that looks at every image several times.

    The views' boxes, each view's own detections, are joined in the image's pixels by NMS within classes. Masks are
    predicted in every view for the joined boxes, mirrored back, and averaged before pasting (detectron2's
    `GeneralizedRCNNWithTTA`; but sizes are made from the image itself, where detectron2's test loader has
    resized it once before).
    """

    def __init__(self, detector: Detector, tta: TTAConfig) -> None:
        super().__init__()
        self.detector = detector
        self.tta = tta

    @property
    def config(self) -> ModelConfig:
        """The detector's."""
        return self.detector.config

    @property
    def num_views(self) -> int:
        """How often an image is seen."""
        return len(self.tta.short_sides) * (2 if self.tta.flip else 1)

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """As `Detector.detect`, in the pixels of the given images.

        Args:
            images: (3, H, W) uint8 RGB, not resized; a GPU resizes them itself.
        """
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: Tensor) -> Detections:
        size = (image.shape[1], image.shape[2])
        image = image.to(self.detector.pixel_mean.device, non_blocking=True)
        views = make_views(size, self.tta)
        found: list[Detections] = []
        pyramids: list[Pyramid] = []
        for view in views:
            batch, sizes = self.detector.preprocess([view.image(image)])
            pyramid = self.detector.pyramid(batch)
            seen = self._boxes(pyramid, sizes[0])
            found.append(Detections(view.source_boxes(seen.boxes), seen.scores, seen.labels))
            if self.config.has_masks:
                # Kept, as the backbone is most of the work: 1.1 GB times the image's aspect ratio in all.
                pyramids.append(pyramid)
        merged = merge(found, size, self.config.inference)
        if pyramids:
            self._add_masks(merged, views, pyramids)
        return merged

    def _boxes(self, pyramid: Pyramid, size: Size) -> Detections:
        """The detector's own detections in one view, without masks."""
        head = self.detector.head
        detect = cast(MaskedHead, head).detect_boxes if self.config.has_masks else head.detect
        return detect(pyramid, [size])[0]

    def _add_masks(self, merged: Detections, views: Sequence[Placement], pyramids: list[Pyramid]) -> None:
        """Set `mask_probs` and `mask_scores`, the means over all views; a view's pyramid is freed after its turn."""
        head = cast(MaskedHead, self.detector.head)
        probs: list[Tensor] = []
        scores: list[Tensor] = []
        for view in views:
            seen = Detections(view.boxes(merged.boxes), merged.scores, merged.labels)
            head.add_masks(pyramids.pop(0), [seen], [view.size])
            assert seen.mask_probs is not None
            probs.append(seen.mask_probs.flip(2) if view.flipped else seen.mask_probs)
            scores += [] if seen.mask_scores is None else [seen.mask_scores]
        merged.mask_probs = torch.stack(probs).mean(dim=0)
        merged.mask_scores = torch.stack(scores).mean(dim=0) if scores else None


def make_views(size: Size, tta: TTAConfig) -> list[Placement]:
    """How an image of `size` (height, width) is seen: every short side, each followed by its mirror image."""
    flips = (False, True) if tta.flip else (False,)
    return [
        Placement(size, resized(size, side, tta.max_side), flipped)
        for side in tta.short_sides
        for flipped in flips
    ]


def merge(found: Sequence[Detections], size: Size, config: InferenceConfig) -> Detections:
    """The detections of all views of one image as one: NMS within classes, and the best of what is left.

    Args:
        found: boxes in the image's pixels; no masks.
        size: the image's height and width; boxes are clipped to it.
        config: IoU and how many to keep.
    """
    boxes = clip_boxes(torch.cat([view.boxes for view in found]), size)
    scores = torch.cat([view.scores for view in found])
    labels = torch.cat([view.labels for view in found])
    (above,) = rows_where([scores > _LOWEST_SCORE])
    boxes, scores, labels = boxes[above], scores[above], labels[above]
    keep = nms_within_classes(boxes, scores, labels, config.nms_iou)[: config.detections_per_image]
    return Detections(boxes[keep], scores[keep], labels[keep])
