"""RetinaNet's head (focal loss paper, section 4), with detectron2's numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from srfgan.models.config import AnchorConfig, InferenceConfig, RetinaNetHeadConfig
from srfgan.models.heads.dense import (
    LEVELS,
    STRIDES,
    best_pairs,
    class_conv,
    clipped_detections,
    dense_conv,
    focal_losses,
    select_dense_detections,
)
from srfgan.models.ops.anchors import AnchorGrids, cell_anchors, flatten_map
from srfgan.models.ops.boxes import Size, decode_boxes, encode_boxes
from srfgan.models.ops.distributed import mean_over_processes
from srfgan.models.ops.matching import IGNORED, POSITIVE, match_boxes
from srfgan.models.structures import Detections, Target

SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""Anchor sizes per level, relative to the level's own: three to the octave."""

_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
_NEGATIVE_BELOW, _POSITIVE_FROM = 0.4, 0.5
_INITIAL_POSITIVES = 100.0
_MOMENTUM = 0.9


class RetinaNetSubnets(nn.Module):
    """Two towers of convolutions, shared by all levels: class logits and box deltas of every anchor.

    Args:
        channels: width of the pyramid.
        num_classes: without background, which has no logit.
        num_anchors: anchors at each place.
        num_convs: depth of each tower.
    """

    def __init__(self, channels: int, num_classes: int, num_anchors: int, num_convs: int) -> None:
        super().__init__()
        self.class_tower = _tower(channels, num_convs)
        self.box_tower = _tower(channels, num_convs)
        self.classes = class_conv(channels, num_anchors * num_classes)
        self.deltas = dense_conv(channels, num_anchors * 4)

    def forward(self, pyramid: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits (N, A * K, H, W) and deltas (N, A * 4, H, W) of each of p3..p7."""
        logits = [self.classes(self.class_tower(pyramid[level])) for level in LEVELS]
        deltas = [self.deltas(self.box_tower(pyramid[level])) for level in LEVELS]
        return logits, deltas


class RetinaNetHead(nn.Module):
    """RetinaNet over p3..p7.

    Args:
        channels: width of the pyramid.
        num_classes: without background.
        anchors: one size per level; each comes at three scales (`SCALES`) and at every ratio.
        config: depth and number of candidates.
        inference: what becomes a detection.
    """

    loss_normalizer: Tensor
    class_weights: Tensor | None
    """(num_classes + 1,) factors on the classification loss, by true class; None: 1 for all."""

    def __init__(
        self,
        channels: int,
        num_classes: int,
        anchors: AnchorConfig,
        config: RetinaNetHeadConfig,
        inference: InferenceConfig,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.config = config
        self.inference = inference
        num_anchors = len(SCALES) * len(anchors.ratios)
        self.subnets = RetinaNetSubnets(channels, num_classes, num_anchors, config.num_convs)
        # Saved with the weights, so that a training that goes on divides by what it would have.
        self.register_buffer("loss_normalizer", torch.tensor(_INITIAL_POSITIVES))
        self.register_buffer("class_weights", None, persistent=False)
        self._grids = AnchorGrids()
        for level, size in zip(LEVELS, anchors.sizes, strict=True):
            cells = torch.cat([cell_anchors(size * scale, anchors.ratios) for scale in SCALES])
            self.register_buffer(f"cell_{level}", cells, persistent=False)

    def losses(
        self, pyramid: dict[str, Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """`loss_cls` and `loss_box_reg`: sums over all images, divided by a moving average of the positives."""
        maps, delta_maps = self.subnets(pyramid)
        anchors = torch.cat(self.anchors(maps))  # (P, 4)
        logits = torch.cat([flatten_map(level, self.num_classes) for level in maps], 1)  # (N, P, K)
        deltas = torch.cat([flatten_map(level, 4) for level in delta_maps], 1)  # (N, P, 4)
        matched, quality = self._match(anchors, targets)  # (N, P), (N, P)
        positive = quality == POSITIVE
        classes = self._classes(matched, positive, targets)  # (N, P)
        loss_cls = (focal_losses(logits, classes, self.class_weights).sum(-1) * (quality != IGNORED)).sum()
        distances = (deltas.float() - self._deltas(anchors, matched, targets)).abs()  # (N, P, 4)
        # All anchors, most of them for nothing: a GPU's host would wait for the number of positive ones.
        loss_box = torch.where(positive[..., None], distances, 0.0).sum()
        normalizer = self._normalizer(positive.sum())
        return {"loss_cls": loss_cls / normalizer, "loss_box_reg": loss_box / normalizer}

    def detect(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first."""
        maps, delta_maps = self.subnets(pyramid)
        anchors = self.anchors(maps)
        scores = [flatten_map(level, self.num_classes).float().sigmoid() for level in maps]
        deltas = [flatten_map(level, 4) for level in delta_maps]
        return [
            self._detect_one([s[image] for s in scores], [d[image] for d in deltas], anchors, size)
            for image, size in enumerate(sizes)
        ]

    def anchors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Anchors (H * W * A, 4) of each of p3..p7, for feature maps (..., H, W); sizes outer, ratios inner."""
        return self._grids.of([self.get_buffer(f"cell_{level}") for level in LEVELS], STRIDES, maps)

    def candidates(
        self, scores: Tensor, deltas: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best pairs of anchor and class of one level: their deltas and anchors (R, 4), scores and labels (R,).

        Args:
            scores: (P, K) in 0..1 of every anchor.
            deltas: (P, 4).
            anchors: (P, 4).
        """
        place, labels, best = best_pairs(
            scores, scores > self.inference.score_threshold, self.config.pre_nms_topk
        )
        return deltas[place], anchors[place], best, labels

    def _detect_one(
        self, scores: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], size: Size
    ) -> Detections:
        levels = [self.candidates(*level) for level in zip(scores, deltas, anchors, strict=True)]
        moves, starts, best, labels = (torch.cat(parts) for parts in zip(*levels, strict=True))
        boxes = decode_boxes(moves, starts, _WEIGHTS)
        return clipped_detections(select_dense_detections(boxes, best, labels, self.inference), size)

    @torch.no_grad()
    def _match(self, anchors: Tensor, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """Index of the best ground truth (N, P) int64 and quality (N, P) int8 of every anchor."""
        matches = [
            match_boxes(
                target.boxes,
                anchors,
                negative_below=_NEGATIVE_BELOW,
                positive_from=_POSITIVE_FROM,
                rescue=True,
            )
            for target in targets
        ]
        return torch.stack([index for index, _ in matches]), torch.stack([label for _, label in matches])

    def _classes(self, matched: Tensor, positive: Tensor, targets: Sequence[Target]) -> Tensor:
        """The class (N, P) that every anchor should have; `num_classes` where it should have none."""
        # With one more label behind them, images without boxes can be indexed too.
        labels = [torch.cat([target.labels, target.labels.new_zeros(1)]) for target in targets]
        classes = torch.stack([label[index] for label, index in zip(labels, matched, strict=True)])
        return torch.where(positive, classes, self.num_classes)

    def _deltas(self, anchors: Tensor, matched: Tensor, targets: Sequence[Target]) -> Tensor:
        """The deltas (N, P, 4) that every anchor should have; of no meaning where it should have none."""
        # With one more box behind them, images without boxes can be indexed too.
        boxes = [
            torch.cat([target.boxes, anchors[:1]])[index]
            for index, target in zip(matched, targets, strict=True)
        ]
        return encode_boxes(anchors, torch.stack(boxes), _WEIGHTS)

    def _normalizer(self, positives: Tensor) -> Tensor:
        """The moving average of the number of positive anchors; only training moves it."""
        positives = mean_over_processes(positives.float()).clamp(min=1)
        average = _MOMENTUM * self.loss_normalizer + (1 - _MOMENTUM) * positives
        if self.training:
            self.loss_normalizer.copy_(average)
        return average


def _tower(channels: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [dense_conv(channels, channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
