"""The box heads of Cascade R-CNN (section 4): each refines the boxes of the one before at a higher IoU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.config import BoxHeadConfig, CascadeConfig, InferenceConfig
from srfgan.models.heads.box_head import BoxHead, SampledBoxes, select_detections
from srfgan.models.ops.boxes import Size
from srfgan.models.structures import Detections, Target


class CascadeBoxHead(nn.Module):
    """Box heads in a row, in the place of one `BoxHead`; their boxes are one for all classes.

    Args:
        channels: width of the pyramid.
        num_classes: without background.
        box: sampling and sizes, the same for all stages.
        cascade: IoU and box weights of each stage.
    """

    stages: Sequence[BoxHead]

    def __init__(self, channels: int, num_classes: int, box: BoxHeadConfig, cascade: CascadeConfig) -> None:
        super().__init__()
        heads = [
            BoxHead(channels, num_classes, box, weights=weights, foreground_from=iou, class_agnostic=True)
            for iou, weights in zip(cascade.ious, cascade.weights, strict=True)
        ]
        self.stages = nn.ModuleList(heads)  # type: ignore[assignment]

    def sample(self, proposals: Sequence[Tensor], targets: Sequence[Target]) -> list[SampledBoxes]:
        """The first stage's sample of each image; the later ones refine it and take no sample of their own."""
        return self.stages[0].sample(proposals, targets)

    def losses(
        self,
        maps: dict[str, Tensor],
        samples: Sequence[SampledBoxes],
        targets: Sequence[Target],
        sizes: Sequence[Size],
    ) -> dict[str, Tensor]:
        """`loss_cls_stage0`, `loss_box_reg_stage0`, ... of all stages, to be summed without weights."""
        losses: dict[str, Tensor] = {}
        for index, stage in enumerate(self.stages):
            boxes = [sample.boxes for sample in samples]
            pooled = stage.pool(maps, boxes)  # (R, C, M, M)
            if pooled.requires_grad:
                # All stages together shall pull at the pyramid as one head does.
                pooled.register_hook(lambda gradient: gradient / len(self.stages))
            logits, deltas = stage.predict(pooled)  # (R, num_classes + 1), (R, 1, 4)
            for name, loss in stage.losses_of(logits, deltas, samples, targets).items():
                losses[f"{name}_stage{index}"] = loss
            if index + 1 < len(self.stages):
                refined = _refined(stage, deltas.detach(), boxes, sizes)
                samples = self.stages[index + 1].label(refined, targets)
        return losses

    def detect(
        self,
        maps: dict[str, Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[Size],
        config: InferenceConfig,
    ) -> list[Detections]:
        """The detections of each image, without masks: the last stage's boxes, the mean of all scores."""
        boxes = list(proposals)
        probs: list[Tensor] = []
        for stage in self.stages:
            logits, deltas = stage(maps, boxes)
            probs.append(F.softmax(logits.float(), dim=-1)[:, :-1])
            boxes = _refined(stage, deltas, boxes, sizes)
        scores = torch.stack(probs).mean(dim=0).split([part.shape[0] for part in boxes])
        return [
            select_detections(part[:, None], image_scores, config)
            for part, image_scores in zip(boxes, scores, strict=True)
        ]


def _refined(stage: BoxHead, deltas: Tensor, boxes: Sequence[Tensor], sizes: Sequence[Size]) -> list[Tensor]:
    """The boxes (R_i, 4) of each image after one stage, clipped to the image."""
    return [part[:, 0] for part in stage.refine(deltas, boxes, sizes)]
