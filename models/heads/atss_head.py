"""ATSS's head (ATSS paper, section 3): FCOS's towers, one square anchor at each place, and adaptive samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from srfgan.models.config import ATSSHeadConfig, InferenceConfig
from srfgan.models.heads.dense import (
    LEVELS,
    STRIDES,
    best_pairs,
    clipped_detections,
    focal_losses,
    joined_maps,
    select_dense_detections,
)
from srfgan.models.heads.fcos_head import FCOSMaps, FCOSTowers
from srfgan.models.ops.anchors import AnchorGrids, cell_anchors, flatten_map
from srfgan.models.ops.atss_targets import atss_targets
from srfgan.models.ops.boxes import Size, clip_boxes, decode_boxes, generalized_iou
from srfgan.models.ops.distributed import mean_over_processes
from srfgan.models.ops.fcos_targets import centerness
from srfgan.models.ops.losses import binary_losses
from srfgan.models.structures import Detections, Target

_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""The authors' factors on (dx, dy, dw, dh)."""


class ATSSHead(nn.Module):
    """ATSS over p3..p7.

    Args:
        channels: width of the pyramid.
        num_classes: without background.
        config: depth, anchors, samples and number of candidates.
        inference: what becomes a detection; its threshold looks at the class score alone.
    """

    class_weights: Tensor | None
    """(num_classes + 1,) factors on the classification loss, by true class; None: 1 for all."""

    def __init__(
        self, channels: int, num_classes: int, config: ATSSHeadConfig, inference: InferenceConfig
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.config = config
        self.inference = inference
        self.towers = FCOSTowers(channels, num_classes, config.num_convs, distances=False)
        self.register_buffer("class_weights", None, persistent=False)
        self._grids = AnchorGrids()
        for level, stride in zip(LEVELS, STRIDES, strict=True):
            cell = cell_anchors(config.anchor_strides * stride, [1.0])
            self.register_buffer(f"cell_{level}", cell, persistent=False)

    def losses(
        self, pyramid: dict[str, Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """`loss_cls`, `loss_box_reg` and `loss_centerness`; 0 for the last two without any positive."""
        maps = self.towers(pyramid)
        levels = self.anchors(maps)
        anchors = torch.cat(levels)  # (P, 4)
        labels, wanted = atss_targets(
            levels, targets, self.config.candidates_per_level, self.num_classes
        )  # (N, P), (N, P, 4)
        positive = labels != self.num_classes  # (N, P)
        # All places, most of them for nothing: a GPU's host would wait for the number of positive ones.
        # Those should be, and are, their anchor, so that their losses are numbers that can be left out.
        deltas = torch.where(positive[..., None], joined_maps(maps.sides, 4).float(), 0.0)  # (N, P, 4)
        wanted = torch.where(positive[..., None], wanted, anchors)  # (N, P, 4)
        quality = torch.where(positive, _centerness(anchors, wanted), 0.0)  # (N, P)
        count = mean_over_processes(positive.sum().float()).clamp(min=1)
        weight = mean_over_processes(quality.sum()).clamp(min=1e-6)
        distances = 1 - generalized_iou(decode_boxes(deltas, anchors, _WEIGHTS), wanted)  # (N, P)
        errors = binary_losses(joined_maps(maps.centerness, 1).squeeze(-1), quality)  # (N, P)
        logits = joined_maps(maps.logits, self.num_classes)  # (N, P, K)
        return {
            "loss_cls": focal_losses(logits, labels, self.class_weights).sum() / count,
            "loss_box_reg": self.config.box_weight * (quality * distances).sum() / weight,
            "loss_centerness": torch.where(positive, errors, 0.0).sum() / count,
        }

    def detect(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first."""
        maps = self.towers(pyramid)
        anchors = self.anchors(maps)
        scores = [flatten_map(x, self.num_classes).float().sigmoid() for x in maps.logits]
        quality = [flatten_map(x, 1).float().sigmoid() for x in maps.centerness]
        deltas = [flatten_map(x, 4) for x in maps.sides]
        found = []
        for image, size in enumerate(sizes):
            levels = [
                self._candidates(s[image], q[image], d[image], level, size)
                for s, q, d, level in zip(scores, quality, deltas, anchors, strict=True)
            ]
            boxes, best, labels = (torch.cat(parts) for parts in zip(*levels, strict=True))
            found.append(
                clipped_detections(select_dense_detections(boxes, best, labels, self.inference), size)
            )
        return found

    def anchors(self, maps: FCOSMaps) -> list[Tensor]:
        """Anchors (H * W, 4) of each of p3..p7."""
        return self._grids.of([self.get_buffer(f"cell_{level}") for level in LEVELS], STRIDES, maps.logits)

    def _candidates(
        self, scores: Tensor, quality: Tensor, deltas: Tensor, anchors: Tensor, size: Size
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (R, 4), cut to the image, scores (R,) and labels (R,) of one level of one image.

        Args:
            scores: (P, K) of the classes.
            quality: (P, 1) centre-ness; pairs are ranked by its product with the class score.
            deltas: (P, 4).
            anchors: (P, 4).
            size: height and width of the image.
        """
        passing = scores > self.inference.score_threshold
        place, labels, best = best_pairs(scores * quality, passing, self.config.pre_nms_topk)
        boxes = decode_boxes(deltas[place], anchors[place], _WEIGHTS)  # (R, 4)
        return clip_boxes(boxes, size), best.sqrt(), labels


def _centerness(anchors: Tensor, boxes: Tensor) -> Tensor:
    """How central the middles of `anchors` (P, 4) lie in `boxes` (N, P, 4): (N, P)."""
    middle = (anchors[:, :2] + anchors[:, 2:]) / 2  # (P, 2)
    return centerness(torch.cat([middle - boxes[..., :2], boxes[..., 2:] - middle], dim=-1))
