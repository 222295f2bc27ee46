"""CenterMask's head: FCOS finds the boxes, a mask branch with spatial attention and mask scores follows.

CenterMask paper, section 3; the mask scores are Mask Scoring R-CNN's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from srfgan.models.config import FCOSHeadConfig, InferenceConfig, MaskBranchConfig
from srfgan.models.heads.box_head import SampledBoxes, foreground_on_host
from srfgan.models.heads.dense import clipped_detections
from srfgan.models.heads.fcos_head import FCOSHead
from srfgan.models.heads.mask_head import MaskHead, mask_loss
from srfgan.models.heads.mask_iou_head import MaskIoUHead
from srfgan.models.ops.boxes import Size
from srfgan.models.ops.mask_iou import mask_iou_targets, visible_shares
from srfgan.models.ops.masks import mask_targets
from srfgan.models.ops.matching import match_boxes
from srfgan.models.ops.pooling import assign_levels_by_share, maps_for_pooling, pool_boxes
from srfgan.models.ops.sampling import sample_candidates
from srfgan.models.ops.transfer import to_device
from srfgan.models.structures import Detections, Target

_FOREGROUND_FROM = 0.5
"""IoU with a ground-truth box from which a box gets that object's mask to learn."""


class CenterMaskHead(FCOSHead):
    """FCOS and, on the boxes it finds, masks and their scores.

    Args:
        channels: width of the pyramid.
        num_classes: without background.
        fcos: depth, sizes of interest and number of candidates of FCOS.
        config: which boxes train the masks.
        mask: mask head with spatial attention.
        mask_iou: predicts how good these masks are.
        pool_levels: names of the levels that boxes are pooled from, neighbours, finest first.
        inference: what becomes a detection.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        fcos: FCOSHeadConfig,
        config: MaskBranchConfig,
        *,
        mask: MaskHead,
        mask_iou: MaskIoUHead,
        pool_levels: Sequence[str],
        inference: InferenceConfig,
    ) -> None:
        super().__init__(channels, num_classes, fcos, inference)
        self.mask = mask
        self.mask_iou = mask_iou
        self.pool_levels = tuple(pool_levels)
        self.masks_per_image = config.masks_per_image
        self.proposing = inference.model_copy(
            update={
                "score_threshold": config.proposal_threshold,
                "detections_per_image": config.proposals_per_image,
            }
        )

    def losses(
        self, pyramid: dict[str, Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """FCOS's losses, `loss_mask` and `loss_maskiou`; only the first is not 0 without any box."""
        maps = self.fcos(pyramid)
        losses = self.losses_of(maps, targets)
        with torch.no_grad():
            proposals = self.boxes(maps, self.proposing)
        samples = self.sample([part.boxes for part in proposals], targets)
        foreground = foreground_on_host(samples)
        labels = torch.cat([sample.labels for sample in samples])
        pooled = self.pool(pyramid, [sample.boxes for sample in samples], sizes)
        logits = self.mask.predict(pooled, labels).float()  # (R, M, M)
        truth, shares = _mask_truth(foreground, targets, logits)  # (R, M, M), (R,)
        # Not detached: this loss trains the masks, too.
        ious = _of_class(self.mask_iou(pooled, logits.sigmoid()), labels)  # (R,)
        wanted = mask_iou_targets(logits, truth, shares)  # (R,)
        errors = torch.where(wanted > 0, 0.5 * (ious.float() - wanted).square(), 0.0)
        losses["loss_mask"] = mask_loss(logits, truth)
        losses["loss_maskiou"] = errors.sum() / (wanted > 0).sum().clamp(min=1)
        return losses

    def detect(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best box score first, with `mask_probs` and `mask_scores`.

        Masks are made of the boxes as FCOS gives them, and belong to these boxes clipped to the image (as in
        CenterMask's published code).
        """
        found = self.boxes(self.fcos(pyramid), self.inference)
        self.add_masks(pyramid, found, sizes)
        return [clipped_detections(part, size) for part, size in zip(found, sizes, strict=True)]

    def detect_boxes(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """FCOS's detections, without masks."""
        return super().detect(pyramid, sizes)

    def add_masks(
        self, pyramid: dict[str, Tensor], detections: Sequence[Detections], sizes: Sequence[Size]
    ) -> None:
        """Set `mask_probs` and `mask_scores` of each image's boxes, wherever these are from."""
        labels = torch.cat([part.labels for part in detections])
        pooled = self.pool(pyramid, [part.boxes for part in detections], sizes)
        probs = self.mask.predict(pooled, labels).float().sigmoid()  # (R, M, M)
        ious = _of_class(self.mask_iou(pooled, probs), labels).float()  # (R,)
        counts = [part.labels.shape[0] for part in detections]
        for part, masks, quality in zip(detections, probs.split(counts), ious.split(counts), strict=True):
            part.mask_probs = masks
            part.mask_scores = part.scores * quality

    def pool(self, pyramid: dict[str, Tensor], boxes: Sequence[Tensor], sizes: Sequence[Size]) -> Tensor:
        """Features (R, C, M, M) of `boxes` (R_i, 4) of all images, each from the level of its share of its image."""
        first, *_, last = (int(level.removeprefix("p")) for level in self.pool_levels)
        levels = [
            assign_levels_by_share(part, size, first, last) for part, size in zip(boxes, sizes, strict=True)
        ]
        maps = maps_for_pooling(pyramid, self.pool_levels)
        return pool_boxes(maps, boxes, self.mask.config.resolution, levels=torch.cat(levels))

    @torch.no_grad()
    def sample(self, proposals: Sequence[Tensor], targets: Sequence[Target]) -> list[SampledBoxes]:
        """Those of each image's proposals and ground-truth boxes that train the masks; all are foreground."""
        candidates = [
            torch.cat([boxes, target.boxes]) for boxes, target in zip(proposals, targets, strict=True)
        ]
        matches = [
            match_boxes(
                target.boxes,
                part,
                negative_below=_FOREGROUND_FROM,
                positive_from=_FOREGROUND_FROM,
                rescue=False,
            )
            for part, target in zip(candidates, targets, strict=True)
        ]
        sampled = sample_candidates([labels for _, labels in matches], self.masks_per_image, 1.0)
        return [
            SampledBoxes(part[chosen], target.labels[matched[chosen]], matched[chosen])
            for part, target, (matched, _), (chosen, _) in zip(
                candidates, targets, matches, sampled, strict=True
            )
        ]


def _mask_truth(
    foreground: Sequence[tuple[Tensor, Tensor]], targets: Sequence[Target], logits: Tensor
) -> tuple[Tensor, Tensor]:
    """The masks (R, M, M) bool that `logits` (R, M, M) should be, and the objects' visible shares (R,)."""
    truth, shares = [], []
    for (boxes, matched), target in zip(foreground, targets, strict=True):
        truth.append(mask_targets(target.masks or [], boxes, matched, logits.shape[-1]))
        shares.append(visible_shares(target.masks or [], boxes, matched))
    return to_device(torch.cat(truth), logits.device), to_device(torch.cat(shares), logits.device)


def _of_class(values: Tensor, labels: Tensor) -> Tensor:
    """(R,): of `values` (R, K) the column of each row's label (R,)."""
    return values.gather(1, labels[:, None]).squeeze(1)
