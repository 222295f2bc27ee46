"""The RoI box head of Fast R-CNN, by default with FPN's two fully connected layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.config import BoxHeadConfig, C5HeadConfig, InferenceConfig
from srfgan.models.heads.convs import conv3x3
from srfgan.models.heads.soft_selection import SoftSelection
from srfgan.models.ops.boxes import Size, clip_boxes, decode_boxes, encode_boxes, is_nonempty
from srfgan.models.ops.losses import class_sum, l1_sum
from srfgan.models.ops.matching import IGNORED, match_boxes
from srfgan.models.ops.nms import nms_within_classes
from srfgan.models.ops.pooling import pool_boxes
from srfgan.models.ops.sampling import sample_candidates, split_candidates
from srfgan.models.structures import Detections, Target

Sampler = Callable[
    [Sequence[Tensor], Sequence[Target], Sequence[tuple[Tensor, Tensor]], int, float],
    list[tuple[Tensor, Tensor]],
]
"""Boxes (R, 4), targets and `match_boxes`' result of each image, a count and the share of positives, to indices of the
sampled positives and negatives."""

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""detectron2's factors on (dx, dy, dw, dh)."""


@dataclass
class SampledBoxes:
    """Proposals of one image that train the RoI heads, foreground first.

    Attributes:
        boxes: (S, 4) float32 xyxy.
        labels: (S,) int64; `num_classes` is background.
        matched: (F,) int64, the ground truth that each of the F foreground boxes belongs to.
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor

    @property
    def foreground(self) -> Tensor:
        """(F, 4) boxes that contain an object."""
        return self.boxes[: len(self.matched)]

    @property
    def foreground_labels(self) -> Tensor:
        """(F,) their classes."""
        return self.labels[: len(self.matched)]


def foreground_on_host(samples: Sequence[SampledBoxes]) -> list[tuple[Tensor, Tensor]]:
    """The foreground boxes (F_i, 4) and `matched` (F_i,) of each image on the host, in one copy."""
    counts = [len(sample.matched) for sample in samples]
    # float32 holds the numbers of more instances than an image has.
    rows = torch.cat([torch.cat([s.foreground, s.matched[:, None].float()], dim=1) for s in samples]).cpu()
    return [(part[:, :4], part[:, 4].long()) for part in rows.split(counts)]


class BoxHead(nn.Module):
    """Pooled boxes through convolutions (if any) and linear layers to class logits and box deltas.

    Args:
        channels: width of the pyramid.
        num_classes: without background, which is the last logit.
        config: sampling and sizes.
        weights: factors on the deltas (dx, dy, dw, dh).
        foreground_from: IoU with a ground-truth box from which a box counts as that object.
        class_agnostic: one box for all classes, instead of one for each.
        sampler: chooses what is learnt from; by default at random.
        box_loss: the sum over predicted and wanted deltas, both (F, 4).
        selection: pools the boxes; by default each is pooled from one level, by its size.

    Attributes:
        learns_truth: whether the ground-truth boxes are among the proposals that it learns on.
    """

    learns_truth = True
    class_weights: Tensor | None
    """(num_classes + 1,) factors on the classification loss, by true class; None: 1 for all."""

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: BoxHeadConfig | C5HeadConfig,
        *,
        weights: Sequence[float] = BOX_WEIGHTS,
        foreground_from: float = 0.5,
        class_agnostic: bool = False,
        sampler: Sampler | None = None,
        box_loss: Callable[[Tensor, Tensor], Tensor] = l1_sum,
        selection: SoftSelection | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.config = config
        self.weights = tuple(weights)
        self.foreground_from = foreground_from
        self.class_agnostic = class_agnostic
        self.sampler = sampler or _at_random
        self.box_loss = box_loss
        self.selection = selection
        self.register_buffer("class_weights", None, persistent=False)
        width = self._add_layers(channels)
        self.classes = nn.Linear(width, num_classes + 1)
        self.deltas = nn.Linear(width, 4 if class_agnostic else num_classes * 4)
        for layer in self.fcs:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        for layer, std in ((self.classes, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def _add_layers(self, channels: int) -> int:
        """Add what lies between pooled boxes of `channels` and the last layers, which read as many as it returns."""
        config = self.config
        assert isinstance(config, BoxHeadConfig)
        widths = [channels] + [config.conv_channels] * config.num_convs
        self.convs = nn.ModuleList(conv3x3(before, after, config.norm) for before, after in pairwise(widths))
        features = [widths[-1] * config.resolution**2] + [config.fc_dim] * config.num_fcs
        self.fcs = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(features))
        return features[-1]

    def forward(self, maps: dict[str, Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits and deltas, as `predict`, of `boxes` (R_i, 4) of all images."""
        return self.predict(self.pool(maps, boxes))

    def pool(self, maps: dict[str, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Features (R, C, M, M) of `boxes` (R_i, 4) of all images, from all of `maps`' levels."""
        if self.selection is not None:
            pooled: Tensor = self.selection(maps, boxes, self.config.resolution)
            return pooled
        return pool_boxes(maps, boxes, self.config.resolution)

    def predict(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, num_classes + 1) and deltas (R, K, 4); K is 1 for class-agnostic boxes."""
        x = pooled.contiguous(memory_format=torch.channels_last) if len(self.convs) > 0 else pooled
        for conv in self.convs:
            x = torch.relu_(conv(x))
        x = x.flatten(1)
        for fc in self.fcs:
            x = torch.relu_(fc(x))
        return self.classes(x), self.deltas(x).unflatten(1, (-1, 4))

    @torch.no_grad()
    def sample(self, proposals: Sequence[Tensor], targets: Sequence[Target]) -> list[SampledBoxes]:
        """Label the proposals (R_i, 4) and the ground-truth boxes of each image, and sample from them."""
        candidates = list(proposals)
        if self.learns_truth:
            candidates = [
                torch.cat([boxes, target.boxes]) for boxes, target in zip(proposals, targets, strict=True)
            ]
        matches = self._match(candidates, targets)
        count, fraction = self.config.samples_per_image, self.config.positive_fraction
        chosen = self.sampler(candidates, targets, matches, count, fraction)
        return self._labelled(candidates, targets, matches, chosen)

    @torch.no_grad()
    def label(self, boxes: Sequence[Tensor], targets: Sequence[Target]) -> list[SampledBoxes]:
        """Label all `boxes` (R_i, 4) of each image but empty ones, which cannot be encoded; the order changes."""
        matches = self._match(boxes, targets)
        labels = [
            torch.where(is_nonempty(part), label, IGNORED)
            for part, (_, label) in zip(boxes, matches, strict=True)
        ]
        return self._labelled(boxes, targets, matches, split_candidates(labels))

    def losses(
        self,
        maps: dict[str, Tensor],
        samples: Sequence[SampledBoxes],
        targets: Sequence[Target],
        sizes: Sequence[Size],
    ) -> dict[str, Tensor]:
        """As `losses_of`, of the sampled boxes; `sizes` are the cascade's need, which clips boxes to them."""
        logits, deltas = self(maps, [sample.boxes for sample in samples])
        return self.losses_of(logits, deltas, samples, targets)

    def losses_of(
        self, logits: Tensor, deltas: Tensor, samples: Sequence[SampledBoxes], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """`loss_cls` and `loss_box_reg`; both sums are divided by the number of all sampled boxes."""
        labels = torch.cat([sample.labels for sample in samples])  # (R,)
        foreground = _foreground(samples)  # (F,)
        boxes = torch.cat([sample.foreground for sample in samples])  # (F, 4)
        wanted = torch.cat(
            [target.boxes[sample.matched] for sample, target in zip(samples, targets, strict=True)]
        )  # (F, 4)
        truth = encode_boxes(boxes, wanted, self.weights)  # (F, 4)
        column = 0 if self.class_agnostic else labels[foreground]
        count = max(len(labels), 1)
        return {
            "loss_cls": class_sum(logits, labels, self.class_weights) / count,
            "loss_box_reg": self.box_loss(deltas[foreground, column], truth) / count,
        }

    def refine(self, deltas: Tensor, boxes: Sequence[Tensor], sizes: Sequence[Size]) -> list[Tensor]:
        """`boxes` (R_i, 4) of each image moved by all `deltas` (R, K, 4): (R_i, K, 4), clipped to the image."""
        moved = decode_boxes(deltas, torch.cat(list(boxes))[:, None], self.weights)  # (R, K, 4)
        counts = [part.shape[0] for part in boxes]
        return [clip_boxes(part, size) for part, size in zip(moved.split(counts), sizes, strict=True)]

    def detect(
        self,
        maps: dict[str, Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[Size],
        config: InferenceConfig,
    ) -> list[Detections]:
        """The detections of each image, without masks: every class of every proposal above the threshold."""
        logits, deltas = self(maps, proposals)
        boxes = self.refine(deltas, proposals, sizes)
        scores = F.softmax(logits.float(), dim=-1)[:, :-1].split([part.shape[0] for part in boxes])
        return [
            select_detections(image_boxes, image_scores, config)
            for image_boxes, image_scores in zip(boxes, scores, strict=True)
        ]

    def _match(self, boxes: Sequence[Tensor], targets: Sequence[Target]) -> list[tuple[Tensor, Tensor]]:
        return [
            match_boxes(
                target.boxes,
                part,
                negative_below=self.foreground_from,
                positive_from=self.foreground_from,
                rescue=False,
            )
            for part, target in zip(boxes, targets, strict=True)
        ]

    def _labelled(
        self,
        boxes: Sequence[Tensor],
        targets: Sequence[Target],
        matches: Sequence[tuple[Tensor, Tensor]],
        chosen: Sequence[tuple[Tensor, Tensor]],
    ) -> list[SampledBoxes]:
        """The chosen positives and negatives of each image."""
        samples = []
        for part, target, (matched, _), (positive, negative) in zip(
            boxes, targets, matches, chosen, strict=True
        ):
            objects = matched[positive]
            background = torch.full_like(negative, self.num_classes)
            samples.append(
                SampledBoxes(
                    boxes=part[torch.cat([positive, negative])],
                    labels=torch.cat([target.labels[objects], background]),
                    matched=objects,
                )
            )
        return samples


def _at_random(
    boxes: Sequence[Tensor],
    targets: Sequence[Target],
    matches: Sequence[tuple[Tensor, Tensor]],
    count: int,
    positive_fraction: float,
) -> list[tuple[Tensor, Tensor]]:
    return sample_candidates([labels for _, labels in matches], count, positive_fraction)


def _foreground(samples: Sequence[SampledBoxes]) -> Tensor:
    """Rows (F,) int64 of the foreground boxes among all sampled boxes of all images."""
    first = accumulate((len(sample.boxes) for sample in samples), initial=0)
    rows = [
        torch.arange(start, start + len(sample.matched), device=sample.matched.device)
        for start, sample in zip(first, samples, strict=False)
    ]
    return torch.cat(rows)


def select_detections(boxes: Tensor, scores: Tensor, config: InferenceConfig) -> Detections:
    """Threshold, NMS within classes and the best of what is left.

    Args:
        boxes: (R, K, 4) one box per class or (R, 1, 4) one for all of them, clipped.
        scores: (R, K) in 0..1.
        config: threshold, IoU and how many to keep.
    """
    row, label = torch.nonzero(scores > config.score_threshold, as_tuple=True)
    boxes, scores = boxes.expand(-1, scores.shape[1], -1)[row, label], scores[row, label]  # (P, 4), (P,)
    keep = nms_within_classes(boxes, scores, label, config.nms_iou)[: config.detections_per_image]
    return Detections(boxes[keep], scores[keep], label[keep])
