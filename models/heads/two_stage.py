"""Faster, Mask and Cascade R-CNN: proposals, then box heads and perhaps a mask head on the same pyramid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from srfgan.models.config import InferenceConfig
from srfgan.models.heads.box_head import BoxHead, foreground_on_host
from srfgan.models.heads.cascade_head import CascadeBoxHead
from srfgan.models.heads.consistent_supervision import ConsistentSupervision
from srfgan.models.heads.mask_head import MaskHead
from srfgan.models.heads.rpn import RegionProposals
from srfgan.models.ops.boxes import Size
from srfgan.models.ops.pooling import maps_for_pooling
from srfgan.models.structures import Detections, Target


class TwoStageHead(nn.Module):
    """RPN, one box head or a cascade of them and, for detectors with masks, a mask head.

    Args:
        rpn: takes the whole pyramid.
        box: takes the levels that boxes are pooled from.
        mask: as `box`; None for detectors without masks.
        pool_levels: these levels, neighbours, finest first.
        inference: what becomes a detection.
        supervision: more losses, on the neck's maps before fusion.
    """

    def __init__(
        self,
        rpn: RegionProposals,
        box: BoxHead | CascadeBoxHead,
        mask: MaskHead | None,
        pool_levels: Sequence[str],
        inference: InferenceConfig,
        supervision: ConsistentSupervision | None = None,
    ) -> None:
        super().__init__()
        self.rpn = rpn
        self.box = box
        self.mask = mask
        self.pool_levels = tuple(pool_levels)
        self.inference = inference
        self.supervision = supervision

    def losses(
        self, pyramid: dict[str, Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Scalar losses by detectron2's names; every parameter is in their graph, whatever the targets."""
        proposals, losses = self.rpn.propose(pyramid, sizes, targets)
        maps = maps_for_pooling(pyramid, self.pool_levels)
        samples = self.box.sample(proposals, targets)
        # Copied before a GPU has the heads to run, so that the host need not wait for them to draw the masks.
        foreground = foreground_on_host(samples) if self.mask is not None else []
        losses |= self.box.losses(maps, samples, targets, sizes)
        if self.mask is not None:
            losses |= self.mask.losses(maps, samples, targets, foreground)
        if self.supervision is not None:
            losses |= self.supervision.losses(pyramid, samples, targets, sizes, foreground)
        return losses

    def detect(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first; masks as `mask_probs`, not pasted."""
        proposals, _ = self.rpn.propose(pyramid, sizes)
        maps = maps_for_pooling(pyramid, self.pool_levels)
        detections = self.box.detect(maps, proposals, sizes, self.inference)
        self.add_masks(maps, detections, sizes)
        return detections

    def detect_boxes(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """As `detect`, without masks."""
        proposals, _ = self.rpn.propose(pyramid, sizes)
        return self.box.detect(maps_for_pooling(pyramid, self.pool_levels), proposals, sizes, self.inference)

    def add_masks(
        self, pyramid: dict[str, Tensor], detections: Sequence[Detections], sizes: Sequence[Size]
    ) -> None:
        """Set `mask_probs` of each image's boxes, wherever these are from; nothing without a mask head.

        `sizes` are CenterMask's need, which chooses levels by them.
        """
        if self.mask is not None:
            self.mask.add_masks(maps_for_pooling(pyramid, self.pool_levels), detections)
