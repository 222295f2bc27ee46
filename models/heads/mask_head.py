"""The RoI mask head of Mask R-CNN (section 3, figure 4 right), and of CenterMask with its attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from srfgan.models.config import MaskHeadConfig
from srfgan.models.heads.box_head import SampledBoxes
from srfgan.models.heads.convs import conv3x3
from srfgan.models.heads.soft_selection import SoftSelection
from srfgan.models.ops.losses import binary_sum
from srfgan.models.ops.masks import mask_targets
from srfgan.models.ops.pooling import pool_boxes
from srfgan.models.ops.transfer import to_device
from srfgan.models.structures import Detections, Target


class MaskHead(nn.Module):
    """Pooled boxes through convolutions and a deconvolution to one mask per class.

    Args:
        channels: width of the pyramid.
        num_classes: without background.
        config: sizes; masks have twice its resolution.
        attention: module that keeps the shape, after the convolutions.
        selection: pools the boxes; by default each is pooled from one level, by its size.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: MaskHeadConfig,
        attention: nn.Module | None = None,
        *,
        selection: SoftSelection | None = None,
    ) -> None:
        super().__init__()
        self.selection = selection
        self.config = config
        widths = [channels] + [config.channels] * config.num_convs
        self.convs = nn.ModuleList(conv3x3(before, after, config.norm) for before, after in pairwise(widths))
        self.attention = attention
        self.up = nn.ConvTranspose2d(widths[-1], config.channels, 2, stride=2)
        self.logits = nn.Conv2d(config.channels, num_classes, 1)
        nn.init.kaiming_normal_(self.up.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.logits.weight, std=0.001)
        assert self.up.bias is not None and self.logits.bias is not None
        nn.init.zeros_(self.up.bias)
        nn.init.zeros_(self.logits.bias)

    def forward(self, maps: dict[str, Tensor], boxes: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mask logits (R, M, M) of `boxes` of all images, each in the channel of its label (R,)."""
        pool = pool_boxes if self.selection is None else self.selection
        return self.predict(pool(maps, boxes, self.config.resolution), labels)

    def predict(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """As `forward`, of the boxes' features (R, C, M / 2, M / 2)."""
        x = pooled.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            x = torch.relu_(conv(x))
        if self.attention is not None:
            x = self.attention(x)
        return self.masks_of(x, labels)

    def masks_of(self, x: Tensor, labels: Tensor) -> Tensor:
        """As `forward`, of what the convolutions give (R, D, M / 2, M / 2)."""
        x = torch.relu_(self.up(x))  # (R, D, M, M)
        # The 1x1 convolution of the one class that is asked for, instead of all of them.
        # (Permuted, so that its gradient comes with the strides of every other 1x1 convolution's.)
        weight = self.logits.weight.permute(0, 2, 3, 1).flatten(0, 2)[labels][:, None]  # (R, 1, D)
        assert self.logits.bias is not None
        masks: Tensor = torch.bmm(weight, x.flatten(2)).unflatten(2, x.shape[2:]).squeeze(1)  # (R, M, M)
        return masks + self.logits.bias[labels][:, None, None]

    def losses(
        self,
        maps: dict[str, Tensor],
        samples: Sequence[SampledBoxes],
        targets: Sequence[Target],
        foreground: Sequence[tuple[Tensor, Tensor]],
    ) -> dict[str, Tensor]:
        """`loss_mask` of the foreground boxes; `foreground` is `foreground_on_host` of the samples."""
        boxes = [sample.foreground for sample in samples]
        labels = torch.cat([sample.foreground_labels for sample in samples])
        logits = self(maps, boxes, labels)
        return {"loss_mask": mask_loss(logits, to_device(self.truth(targets, foreground), logits.device))}

    def truth(self, targets: Sequence[Target], foreground: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Masks (F, M, M) in 0..1 of the foreground boxes, drawn by the host."""
        side = 2 * self.config.resolution
        masks = [
            mask_targets(target.masks or [], part, matched, side)
            for target, (part, matched) in zip(targets, foreground, strict=True)
        ]
        return torch.cat(masks)

    def add_masks(self, maps: dict[str, Tensor], detections: Sequence[Detections]) -> None:
        """Set `mask_probs` of the detections of every image."""
        labels = torch.cat([found.labels for found in detections])
        logits = self(maps, [found.boxes for found in detections], labels)
        counts = [found.labels.shape[0] for found in detections]
        for found, probs in zip(detections, logits.float().sigmoid().split(counts), strict=True):
            found.mask_probs = probs


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross entropy of masks (R, M, M) over all their pixels; 0 without any mask."""
    return binary_sum(logits, truth) / max(logits.numel(), 1)
