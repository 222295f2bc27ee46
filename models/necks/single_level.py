"""No neck: one map of the backbone, under the name that heads ask for."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class SingleLevel(nn.Module):
    """A map of the backbone as the only level.

    Args:
        source: `res4`, for example; the level is `p4`.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.level = source, source.replace("res", "p")

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backbone maps to {"p4": (N, C, H/16, W/16)}."""
        return {self.level: features[self.source]}
