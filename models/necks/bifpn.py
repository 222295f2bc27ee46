"""The bidirectional feature pyramid (EfficientDet paper, section 3) with any upsampler in its top-down steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.errors import InputError
from srfgan.models.upsamplers.seam import upsample_to

_EPSILON = 1e-4
"""Keeps the fusion's division from zero (section 3.3)."""


class BiFPN(nn.Module):
    """Layers that pass features from the coarse levels to the fine ones and back; p3..p7.

    Args:
        lateral: convolutions of res3..res5 to the pyramid's width, `{"p3": ...}`, finest first.
        top: maps of the backbone, by name, to the levels above p5.
        layers: in order; the outputs of one are the inputs of the next.
        pool: module mapping (N, C, H, W) to (N, C, ceil(H/2), ceil(W/2)), between two levels.
        upsample: any upsampler, plain or guided by each layer's inputs (`srfgan.models.upsamplers`); one for all levels
            of all layers.
        skip: convolutions for the bottom-up skips of the first layer, of levels that do not use the lateral's.
        first_skips: the bottom-up skips of all later layers are the laterals too, not the layer's inputs.

    Attributes:
        upsample: that module; for the learned ones, G.
    """

    layers: Sequence[BiFPNLayer]

    def __init__(
        self,
        *,
        lateral: nn.ModuleDict,
        top: nn.Module,
        layers: Sequence[BiFPNLayer],
        pool: nn.Module,
        upsample: nn.Module,
        skip: nn.ModuleDict | None = None,
        first_skips: bool = False,
    ) -> None:
        super().__init__()
        self.lateral = lateral
        self.skip = nn.ModuleDict() if skip is None else skip
        self.top = top
        self.layers = nn.ModuleList(layers)  # type: ignore[assignment]
        self.pool = pool
        self.upsample = upsample
        self.first_skips = first_skips

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backbone maps to {"p3": (N, C, H/8, W/8), ..., "p7": (N, C, H/128, W/128)}, sizes rounded up.

        Raises:
            InputError: in training, if p7 is a single pixel, which no BatchNorm can normalise.
        """
        laterals = _convolved(features, self.lateral)
        laterals |= self.top(features)
        pyramid, skips = laterals, laterals | _convolved(features, self.skip)
        coarsest = laterals["p7"]
        if self.training and coarsest[:, 0].numel() == 1:
            raise InputError(
                "A BiFPN cannot train on one image with a single pixel at p7. Use images of more than 128 pixels "
                "(data.short_sides) or more images per process (--batch-size)."
            )
        for layer in self.layers:
            pyramid = layer(pyramid, skips, self.upsample, self.pool)
            skips = laterals if self.first_skips else pyramid
        return pyramid


class BiFPNLayer(nn.Module):
    """One way down and one way up (EfficientDet paper, figure 2d and section 3.3).

    Args:
        levels: names, finest first.
        conv: makes the convolution of each node.
        normalised: of `Fusion`.
    """

    def __init__(self, levels: Sequence[str], conv: Callable[[], nn.Module], *, normalised: bool) -> None:
        super().__init__()
        self.top_down = nn.ModuleDict(
            {level: Fusion(2, conv(), normalised=normalised) for level in reversed(levels[:-1])}
        )
        self.bottom_up = nn.ModuleDict(
            {level: Fusion(3, conv(), normalised=normalised) for level in levels[1:-1]}
        )
        self.bottom_up[levels[-1]] = Fusion(2, conv(), normalised=normalised)

    def forward(
        self,
        maps: Mapping[str, Tensor],
        skips: Mapping[str, Tensor],
        upsample: nn.Module,
        pool: nn.Module,
    ) -> dict[str, Tensor]:
        """Maps of every level to maps of the same shapes; `skips` enter the way up, beside the way down's."""
        above = maps[list(maps)[-1]]
        merged: dict[str, Tensor] = {}
        for level, fuse in self.top_down.items():
            x = maps[level]
            above = fuse(x, upsample_to(upsample, above, x))
            merged[level] = above
        finest, below = next(reversed(merged.items()))
        pyramid = {finest: below}
        for level, fuse in self.bottom_up.items():
            down = [merged[level]] if level in merged else []
            below = fuse(skips[level], *down, pool(below))
            pyramid[level] = below
        return pyramid


class Fusion(nn.Module):
    """A node: the weighted sum of maps of one shape, swish, and a convolution.

    Args:
        count: how many maps.
        conv: keeps the shape; nothing follows it.
        normalised: the weights are not negative and sum to one (fast normalised fusion); else they are any.
    """

    def __init__(self, count: int, conv: nn.Module, *, normalised: bool) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(count))
        self.conv = conv
        self.normalised = normalised

    def forward(self, *maps: Tensor) -> Tensor:
        """`count` maps (N, C, H, W) to one."""
        weights: Tensor = self.weights
        if self.normalised:
            weights = torch.relu(weights)
            weights = weights / (weights.sum() + _EPSILON)
        first, *others = (weight * x for weight, x in zip(weights.unbind(), maps, strict=True))
        fused: Tensor = self.conv(F.silu(sum(others, start=first)))
        return fused


def _convolved(features: Mapping[str, Tensor], convs: nn.ModuleDict) -> dict[str, Tensor]:
    """Each convolution on the backbone map of its level."""
    return {level: conv(features[level.replace("p", "res")]) for level, conv in convs.items()}
