"""The RoI box head of Fast R-CNN with FPN's two fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import BoxHeadConfig, InferenceConfig
from models.ops.boxes import Size, clip_boxes, decode_boxes, encode_boxes
from models.ops.losses import class_sum, l1_sum
from models.ops.matching import match_boxes
from models.ops.nms import nms_within_classes
from models.ops.pooling import pool_boxes
from models.ops.sampling import sample_candidates
from models.structures import Detections, Target

LEVELS = ("p2", "p3", "p4", "p5")

_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
_FOREGROUND_FROM = 0.5


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


class BoxHead(nn.Module):
    """Pooled boxes through two linear layers to class logits and class-specific box deltas.

    Args:
        channels: width of the pyramid.
        num_classes: without background, which is the last logit.
        config: sampling and sizes.
    """

    def __init__(self, channels: int, num_classes: int, config: BoxHeadConfig) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.config = config
        self.fc1 = nn.Linear(channels * config.resolution**2, config.fc_dim)
        self.fc2 = nn.Linear(config.fc_dim, config.fc_dim)
        self.classes = nn.Linear(config.fc_dim, num_classes + 1)
        self.deltas = nn.Linear(config.fc_dim, num_classes * 4)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        for layer, std in ((self.classes, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, pyramid: dict[str, Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits (R, num_classes + 1) and deltas (R, num_classes, 4) of `boxes` of all images."""
        x = pool_boxes([pyramid[level] for level in LEVELS], boxes, self.config.resolution)
        x = torch.relu_(self.fc1(x.flatten(1)))
        x = torch.relu_(self.fc2(x))
        return self.classes(x), self.deltas(x).unflatten(1, (self.num_classes, 4))

    @torch.no_grad()
    def sample(self, proposals: Tensor, target: Target) -> SampledBoxes:
        """Label the proposals and ground-truth boxes of one image at IoU 0.5 and sample from them."""
        candidates = torch.cat([proposals, target.boxes])
        matched, labels = match_boxes(
            target.boxes,
            candidates,
            negative_below=_FOREGROUND_FROM,
            positive_from=_FOREGROUND_FROM,
            rescue=False,
        )
        positive, negative = sample_candidates(
            labels, self.config.samples_per_image, self.config.positive_fraction
        )
        matched = matched[positive]
        background = torch.full_like(negative, self.num_classes)
        return SampledBoxes(
            boxes=candidates[torch.cat([positive, negative])],
            labels=torch.cat([target.labels[matched], background]),
            matched=matched,
        )

    def losses(
        self, pyramid: dict[str, Tensor], samples: Sequence[SampledBoxes], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """`loss_cls` and `loss_box_reg`; both sums are divided by the number of all sampled boxes."""
        logits, deltas = self(pyramid, [sample.boxes for sample in samples])
        labels = torch.cat([sample.labels for sample in samples])
        foreground = torch.nonzero(labels < self.num_classes).flatten()
        boxes = torch.cat([sample.foreground for sample in samples])
        wanted = torch.cat(
            [target.boxes[sample.matched] for sample, target in zip(samples, targets, strict=True)]
        )
        truth = encode_boxes(boxes, wanted, _WEIGHTS)
        count = max(len(labels), 1)
        return {
            "loss_cls": class_sum(logits, labels) / count,
            "loss_box_reg": l1_sum(deltas[foreground, labels[foreground]], truth) / count,
        }

    def detect(
        self,
        pyramid: dict[str, Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[Size],
        config: InferenceConfig,
    ) -> list[Detections]:
        """The detections of each image, without masks: every class of every proposal above the threshold."""
        logits, deltas = self(pyramid, proposals)
        boxes = decode_boxes(deltas, torch.cat(list(proposals))[:, None], _WEIGHTS)
        scores = F.softmax(logits.float(), dim=-1)[:, :-1]
        counts = [part.shape[0] for part in proposals]
        return [
            select_detections(clip_boxes(image_boxes, size), image_scores, config)
            for image_boxes, image_scores, size in zip(
                boxes.split(counts), scores.split(counts), sizes, strict=True
            )
        ]


def select_detections(boxes: Tensor, scores: Tensor, config: InferenceConfig) -> Detections:
    """Threshold, NMS within classes and the best of what is left.

    Args:
        boxes: (R, K, 4) one box per class, clipped.
        scores: (R, K) in 0..1.
        config: threshold, IoU and how many to keep.
    """
    row, label = torch.nonzero(scores > config.score_threshold, as_tuple=True)
    boxes, scores = boxes[row, label], scores[row, label]
    keep = nms_within_classes(boxes, scores, label, config.nms_iou)[: config.detections_per_image]
    return Detections(boxes[keep], scores[keep], label[keep])
