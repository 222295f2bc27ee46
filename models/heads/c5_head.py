"""The box head of a detector without a neck: res5 on every pooled box (ResNet paper, appendix A)."""

from __future__ import annotations

from torch import Tensor, nn

from srfgan.models.config import C5HeadConfig
from srfgan.models.heads.box_head import BoxHead


class C5BoxHead(BoxHead):
    """Pooled boxes through the backbone's res5 and a mean over their pixels to class logits and box deltas.

    Ground-truth boxes are not among the proposals that it learns on.

    Args:
        res5: it stays a part of the backbone, with whose weights it is loaded, saved and frozen.
        width: channels of its results.
        num_classes: without background, which is the last logit.
        config: sampling and the size of pooled boxes.
    """

    learns_truth = False

    def __init__(self, res5: nn.Module, width: int, num_classes: int, config: C5HeadConfig) -> None:
        super().__init__(width, num_classes, config)
        # In a tuple, so that its parameters are not listed a second time.
        self._res5 = (res5,)

    @property
    def res5(self) -> nn.Module:
        """What boxes go through."""
        return self._res5[0]

    def predict(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, num_classes + 1) and deltas (R, num_classes, 4) of features (R, C, M, M)."""
        return super().predict(self.res5(pooled).mean(dim=(2, 3)))

    def _add_layers(self, channels: int) -> int:
        self.convs, self.fcs = nn.ModuleList(), nn.ModuleList()
        return channels
