"""TridentNet's head (sections 4.2 and 4.3): RPN and boxes of every branch, each trained and asked for its own sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from srfgan.models.config import InferenceConfig, TridentConfig
from srfgan.models.heads.box_head import select_detections
from srfgan.models.heads.c5_head import C5BoxHead
from srfgan.models.heads.rpn import RegionProposals
from srfgan.models.ops.boxes import Size, within_sides
from srfgan.models.ops.nms import nms_within_classes
from srfgan.models.ops.pooling import maps_for_pooling
from srfgan.models.ops.transfer import to_device
from srfgan.models.structures import Detections, Target


class TridentHead(nn.Module):
    """RPN and box head over maps in which the branches follow one another, all images of each.

    Args:
        rpn: of the level.
        box: likewise.
        config: the branches' ranges; `test_branch` detects alone, if there is one.
        level: the map's name.
        inference: what becomes a detection.
    """

    def __init__(
        self,
        rpn: RegionProposals,
        box: C5BoxHead,
        config: TridentConfig,
        level: str,
        inference: InferenceConfig,
    ) -> None:
        super().__init__()
        self.rpn = rpn
        self.box = box
        self.config = config
        self.level = level
        self.inference = inference

    def losses(
        self, pyramid: dict[str, Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Scalar losses by detectron2's names, over all branches; every parameter is in their graph."""
        branches = len(self.config.dilations)
        ranges = self._ranges(len(sizes), pyramid[self.level]) if self.config.scale_aware else None
        sizes, targets = list(sizes) * branches, list(targets) * branches
        proposals, losses = self.rpn.propose(pyramid, sizes, targets, ranges)
        samples = self.box.sample(proposals, targets)
        maps = maps_for_pooling(pyramid, [self.level])
        return losses | self.box.losses(maps, samples, targets, sizes)

    def detect(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first: of one branch, or of all."""
        branches = 1 if self.config.test_branch is not None else len(self.config.dilations)
        every = list(sizes) * branches
        proposals, _ = self.rpn.propose(pyramid, every)
        logits, deltas = self.box(maps_for_pooling(pyramid, [self.level]), proposals)
        scores = logits.float().softmax(dim=-1)[:, :-1]
        boxes = self.box.refine(deltas, proposals, every)
        of_image = scores.split([part.shape[0] for part in proposals])
        if branches > 1 and self.config.scale_aware:
            # Boxes that another branch is for pass no threshold.
            ranges = self._ranges(len(sizes), scores)
            of_image = tuple(
                torch.where(within_sides(part, own), found, 0.0)
                for part, own, found in zip(boxes, ranges, of_image, strict=True)
            )
        found = [
            select_detections(part, image_scores, self.inference)
            for part, image_scores in zip(boxes, of_image, strict=True)
        ]
        return (
            found
            if branches == 1
            else [self._merged(found[image :: len(sizes)]) for image in range(len(sizes))]
        )

    def _merged(self, found: Sequence[Detections]) -> Detections:
        """Of one image's detections by all branches those that NMS leaves, best first."""
        boxes, scores, labels = (
            torch.cat([getattr(one, name) for one in found]) for name in ("boxes", "scores", "labels")
        )
        keep = nms_within_classes(boxes, scores, labels, self.inference.nms_iou)
        keep = keep[: self.inference.detections_per_image]
        return Detections(boxes[keep], scores[keep], labels[keep])

    def _ranges(self, images: int, like: Tensor) -> Tensor:
        """Smallest and largest side of the boxes of each row of a batch, (B * `images`, 2)."""
        rows = [
            (low or 0.0, float("inf") if high is None else high)
            for low, high in self.config.ranges
            for _ in range(images)
        ]
        return to_device(torch.tensor(rows, dtype=torch.float32), like.device)
