"""Libra R-CNN's head (Libra R-CNN paper, section 3): Faster R-CNN's on balanced features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from srfgan.models.config import BoxHeadConfig, InferenceConfig, LibraConfig
from srfgan.models.heads.box_head import BoxHead
from srfgan.models.heads.rpn import RegionProposals
from srfgan.models.heads.two_stage import TwoStageHead
from srfgan.models.necks.balanced import BalancedPyramid
from srfgan.models.ops.balanced_sampling import sample_balanced
from srfgan.models.ops.boxes import Size
from srfgan.models.ops.losses import balanced_l1_sum
from srfgan.models.structures import Detections, Target


class LibraHead(TwoStageHead):
    """RPN and box head on a pyramid whose levels are balanced first.

    The balancing belongs to the head, so that it follows whatever neck there is, and an extractor's neck can be taken
    over as it stands.

    Args:
        channels: width of the pyramid.
        rpn: takes the whole balanced pyramid.
        box: of `balanced_box_head`.
        pool_levels: the levels that boxes are pooled from, neighbours, finest first.
        inference: what becomes a detection.
    """

    def __init__(
        self,
        channels: int,
        rpn: RegionProposals,
        box: BoxHead,
        pool_levels: Sequence[str],
        inference: InferenceConfig,
    ) -> None:
        super().__init__(rpn, box, None, pool_levels, inference)
        self.balance = BalancedPyramid(channels)

    def losses(
        self, pyramid: dict[str, Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """As Faster R-CNN's."""
        return super().losses(self._balanced(pyramid), sizes, targets)

    def detect(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first."""
        return super().detect(self._balanced(pyramid), sizes)

    def _balanced(self, pyramid: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the pyramid's levels; a neck may give more than these."""
        balanced: dict[str, Tensor] = self.balance({level: pyramid[level] for level in self.rpn.levels})
        return balanced


def balanced_box_head(channels: int, num_classes: int, config: BoxHeadConfig, libra: LibraConfig) -> BoxHead:
    """A box head with balanced samples (section 3.1) and the balanced L1 loss (section 3.3)."""
    return BoxHead(
        channels,
        num_classes,
        config,
        sampler=partial(sample_balanced, iou_bins=libra.iou_bins),
        box_loss=partial(balanced_l1_sum, alpha=libra.l1_alpha, gamma=libra.l1_gamma),
    )
