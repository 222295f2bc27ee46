"""AugFPN's soft RoI selection (AugFPN paper, section 3.3): boxes are pooled from all levels at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from srfgan.models.necks.augfpn import SpatialFusion
from srfgan.models.ops.pooling import pool_boxes


class SoftSelection(nn.Module):
    """Pools every box from every level, and adds up what it got with weights of each bin and level.

    Args:
        channels: width of the pyramid.
        levels: how many are pooled from.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.fusion = SpatialFusion(channels, levels)

    def forward(self, maps: Mapping[str, Tensor], boxes: Sequence[Tensor], resolution: int) -> Tensor:
        """As `pool_boxes`."""
        pooled: Tensor = self.fusion([pool_boxes({level: x}, boxes, resolution) for level, x in maps.items()])
        return pooled
