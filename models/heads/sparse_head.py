"""Sparse R-CNN: learned proposals, refined by dynamic heads in turn and trained as a set; no NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from srfgan.models.config import InferenceConfig, SparseHeadConfig
from srfgan.models.heads.dense import best_pairs, clipped_detections, focal_losses
from srfgan.models.heads.dynamic_head import DynamicHead
from srfgan.models.ops.boxes import Size, generalized_iou
from srfgan.models.ops.distributed import mean_over_processes
from srfgan.models.ops.pooling import maps_for_pooling, pool_boxes
from srfgan.models.ops.set_matching import focal_costs, match_sets
from srfgan.models.ops.transfer import to_device
from srfgan.models.structures import Detections, Target

_RESOLUTION = 7
_SAMPLES = 2
"""Of RoIAlign, in each direction of a bin."""


@dataclass
class Truth:
    """The ground truth of N images in one piece.

    Attributes:
        boxes: (G, 4) float32 xyxy in pixels, one image after the other.
        labels: (G,) int64.
        image: (G,) int64, where each belongs.
        scale: (N, 4) float32, width and height of each image, twice.
        counts: boxes of each image.
    """

    boxes: Tensor
    labels: Tensor
    image: Tensor
    scale: Tensor
    counts: list[int]


class SparseHead(nn.Module):
    """Sparse R-CNN's proposals and iterations.

    Args:
        levels: names of the levels that boxes are pooled from, finest first.
        channels: width of the pyramid, and of the proposals' features.
        num_classes: without background.
        config: sizes and weights of the losses.
        inference: what becomes a detection; there is no NMS. The paper has no threshold: a
            `score_threshold` of 0.
    """

    stages: Sequence[DynamicHead]

    def __init__(
        self,
        levels: Sequence[str],
        channels: int,
        num_classes: int,
        config: SparseHeadConfig,
        inference: InferenceConfig,
    ) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.num_classes = num_classes
        self.config = config
        self.inference = inference
        # Centre, width and height in shares of the image: all of it at first.
        self.proposal_boxes = nn.Parameter(torch.tensor([0.5, 0.5, 1.0, 1.0]).repeat(config.num_proposals, 1))
        self.proposal_features = nn.Parameter(torch.randn(config.num_proposals, channels))
        heads = [DynamicHead(channels, num_classes, _RESOLUTION**2, config) for _ in range(config.stages)]
        self.stages = nn.ModuleList(heads)  # type: ignore[assignment]

    def losses(
        self, pyramid: dict[str, Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """`loss_ce`, `loss_bbox` and `loss_giou` of the last iteration, and of the others with `_0`, `_1`, ...

        Weights are applied. Without any box in the batch, all but the first are 0.
        """
        features, boxes = zip(*self._iterations(pyramid, sizes), strict=True)
        logits = [stage.classify(x) for stage, x in zip(self.stages, features, strict=True)]
        by_name = self._set_losses(torch.stack(logits), torch.stack(boxes), _joined(targets, sizes))
        endings = [*(f"_{stage}" for stage in range(len(self.stages) - 1)), ""]
        return {
            f"{name}{ending}": loss
            for name, losses in by_name.items()
            for ending, loss in zip(endings, losses.unbind(), strict=True)
        }

    def detect(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first: the best pairs of proposal and class after the last iteration."""
        *_, (features, boxes) = self._iterations(pyramid, sizes)
        scores = self.stages[-1].classify(features).sigmoid()
        return [self._select(b, s, size) for b, s, size in zip(boxes, scores, sizes, strict=True)]

    def _iterations(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[tuple[Tensor, Tensor]]:
        """The proposals' features (N, P, C) and boxes (N, P, 4) after each iteration.

        Boxes pass no gradient to the iteration before, features do.
        """
        maps = maps_for_pooling(pyramid, self.levels)
        features = self.proposal_features.expand(len(sizes), -1, -1)  # (N, P, C)
        boxes = self._initial_boxes(sizes)  # (N, P, 4)
        found = []
        for stage in self.stages:
            pooled = pool_boxes(maps, list(boxes.detach()), _RESOLUTION, samples=_SAMPLES)  # (N * P, C, M, M)
            features = stage(features, pooled)
            found.append((features, stage.move(features, boxes)))
            boxes = found[-1][1].detach()
        return found

    def _initial_boxes(self, sizes: Sequence[Size]) -> Tensor:
        """(N, P, 4) xyxy in pixels."""
        centre, half = self.proposal_boxes[:, :2], self.proposal_boxes[:, 2:] / 2  # (P, 2), (P, 2)
        x0, y0, x1, y1 = torch.cat([centre - half, centre + half], dim=1).unbind(-1)
        return torch.stack(
            [
                torch.stack([x0 * width, y0 * height, x1 * width, y1 * height], dim=-1)
                for height, width in sizes
            ]
        )

    def _set_losses(self, logits: Tensor, boxes: Tensor, truth: Truth) -> dict[str, Tensor]:
        """The three losses (S,) of each iteration; `logits` (S, N, P, K), `boxes` (S, N, P, 4)."""
        matched, proposal = match_sets(self._costs(logits.detach(), boxes.detach(), truth), truth.counts)
        image = truth.image[matched]  # (S, M)
        place = (torch.arange(len(logits), device=logits.device)[:, None], image, proposal)
        labels = torch.full(logits.shape[:-1], self.num_classes, device=logits.device)  # (S, N, P)
        labels[place] = truth.labels[matched]
        found, wanted, scale = boxes[place], truth.boxes[matched], truth.scale[image]  # (S, M, 4) each
        distances = (found / scale - wanted / scale).abs()  # (S, M, 4)
        count = mean_over_processes(logits.new_full((), len(truth.boxes))).clamp(min=1)
        config = self.config
        return {
            "loss_ce": config.class_weight / count * focal_losses(logits, labels).sum(dim=(1, 2, 3)),
            "loss_bbox": config.l1_weight / count * distances.sum(dim=(1, 2)),
            "loss_giou": config.giou_weight / count * (1 - generalized_iou(found, wanted)).sum(dim=1),
        }

    def _costs(self, logits: Tensor, boxes: Tensor, truth: Truth) -> Tensor:
        """(G, S, P): what each iteration's predictions cost each ground-truth box of their image."""
        config = self.config
        scale = truth.scale[truth.image][:, None, None]  # (G, 1, 1, 4)
        classes = focal_costs(logits[:, truth.image, :, truth.labels])  # (G, S, P)
        found = boxes.transpose(0, 1)[truth.image]  # (G, S, P, 4)
        wanted = truth.boxes[:, None, None]  # (G, 1, 1, 4)
        distances = (found / scale - wanted / scale).abs().sum(dim=-1)  # (G, S, P)
        return (
            config.class_weight * classes
            + config.l1_weight * distances
            - config.giou_weight * generalized_iou(found, wanted)
        )

    def _select(self, boxes: Tensor, scores: Tensor, size: Size) -> Detections:
        """The best of all pairs of box (P, 4) and class (P, K) of one image."""
        passing = scores > self.inference.score_threshold
        place, labels, best = best_pairs(scores, passing, self.inference.detections_per_image)
        best, order = best.sort(descending=True)
        found = Detections(boxes[place[order]], best, labels[order])
        return clipped_detections(found, size)


def _joined(targets: Sequence[Target], sizes: Sequence[Size]) -> Truth:
    boxes = torch.cat([target.boxes for target in targets])
    counts = [len(target.boxes) for target in targets]
    image = [index for index, count in enumerate(counts) for _ in range(count)]
    scale = [[width, height, width, height] for height, width in sizes]
    return Truth(
        boxes=boxes,
        labels=torch.cat([target.labels for target in targets]),
        image=to_device(torch.tensor(image, dtype=torch.int64), boxes.device),
        scale=to_device(torch.tensor(scale, dtype=torch.float32), boxes.device),
        counts=counts,
    )
