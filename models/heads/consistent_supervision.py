"""AugFPN's consistent supervision (AugFPN paper, section 3.1): heads that learn on each level before fusion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from srfgan.models.heads.box_head import BoxHead, SampledBoxes
from srfgan.models.heads.mask_head import MaskHead, mask_loss
from srfgan.models.necks.augfpn import before_fusion
from srfgan.models.ops.boxes import Size
from srfgan.models.ops.pooling import maps_for_pooling
from srfgan.models.ops.transfer import to_device
from srfgan.models.structures import Target

_WEIGHT = 0.25
"""Of these losses (lambda of equation 1)."""


class ConsistentSupervision(nn.Module):
    """One box head, and one mask head, for all levels; they learn the same boxes on each, and detect nothing.

    Args:
        levels: the levels that boxes are pooled from, neighbours, finest first.
        box: of its own weights.
        mask: too; None for detectors without masks.
    """

    def __init__(self, levels: Sequence[str], box: BoxHead, mask: MaskHead | None) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.box = box
        self.mask = mask

    def losses(
        self,
        pyramid: dict[str, Tensor],
        samples: Sequence[SampledBoxes],
        targets: Sequence[Target],
        sizes: Sequence[Size],
        foreground: Sequence[tuple[Tensor, Tensor]],
    ) -> dict[str, Tensor]:
        """`loss_cls_before`, `loss_box_reg_before` and, with masks, `loss_mask_before`: weighted sums over the levels.

        Args:
            pyramid: with the neck's maps before fusion.
            samples: that the heads after fusion learn on.
            targets: ground truth.
            sizes: of the images.
            foreground: `foreground_on_host` of the samples; unused without masks.
        """
        maps = maps_for_pooling({level: pyramid[before_fusion(level)] for level in self.levels}, self.levels)
        of_levels = [self.box.losses({level: x}, samples, targets, sizes) for level, x in maps.items()]
        if self.mask is not None:
            masks = self._mask_losses(self.mask, maps, samples, targets, foreground)
            of_levels = [losses | {"loss_mask": loss} for losses, loss in zip(of_levels, masks, strict=True)]
        return {
            f"{name}_before": _WEIGHT * torch.stack([losses[name] for losses in of_levels]).sum()
            for name in of_levels[0]
        }

    def _mask_losses(
        self,
        mask: MaskHead,
        maps: dict[str, Tensor],
        samples: Sequence[SampledBoxes],
        targets: Sequence[Target],
        foreground: Sequence[tuple[Tensor, Tensor]],
    ) -> list[Tensor]:
        boxes = [sample.foreground for sample in samples]
        labels = torch.cat([sample.foreground_labels for sample in samples])
        truth = to_device(mask.truth(targets, foreground), labels.device)
        return [mask_loss(mask({level: x}, boxes, labels), truth) for level, x in maps.items()]
