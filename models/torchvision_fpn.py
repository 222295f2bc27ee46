"""Any upsampler inside torchvision's feature pyramid: the method in detectors that this project did not build."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from srfgan.models.errors import InputError, kind_of
from srfgan.models.upsamplers.seam import doubled, upsample_to


def replace_upsampling(fpn: FeaturePyramidNetwork, upsample: nn.Module) -> FeaturePyramidNetwork:
    """The same feature pyramid with `upsample` in place of its nearest-neighbour interpolation.

        detector = torchvision.models.detection.fasterrcnn_resnet50_fpn()
        detector.backbone.fpn = replace_upsampling(detector.backbone.fpn, build_upsampler("srf", 256))

    Args:
        fpn: stays as it is; the result shares its convolutions and extra levels.
        upsample: any upsampler, plain or guided by the lateral maps (`srfgan.models.upsamplers`), for maps of the
            pyramid's width; one for all levels.

    Returns:
        A pyramid with the original's names in its state dict, and `upsample.` before those of the module.

    Raises:
        InputError: `fpn` is no such pyramid, or `upsample` does not double maps of its width.
    """
    if not isinstance(fpn, FeaturePyramidNetwork):
        inside = "; a detector's is detector.backbone.fpn" if isinstance(fpn, nn.Module) else ""
        raise InputError(f"fpn is {kind_of(fpn)}, not torchvision's FeaturePyramidNetwork{inside}")
    if not isinstance(upsample, nn.Module):
        raise InputError(f"upsample is {kind_of(upsample)}, not a module, as build_upsampler makes one")
    _check_doubles(upsample, next(fpn.layer_blocks.parameters()))
    return UpsamplingPyramid(fpn, upsample)


def _check_doubles(upsample: nn.Module, weight: Tensor) -> None:
    """Try `upsample` on a small map as wide as the pyramid, whose 3x3 convolutions have `weight`."""
    channels = weight.shape[0]
    own = next(upsample.parameters(), weight)
    modes = {module: module.training for module in upsample.modules()}
    try:
        with torch.no_grad():
            coarse, fine = own.new_zeros(1, channels, 4, 6), own.new_zeros(1, channels, 8, 12)
            found: Any = doubled(upsample.eval(), coarse, fine).shape
    except Exception as error:
        found = str(error).split("\n")[0]
    for module, training in modes.items():
        module.training = training
    if found != (1, channels, 8, 12):
        got = tuple(found) if isinstance(found, torch.Size) else found
        raise InputError(
            f"upsample must map (1, {channels}, 4, 6) to (1, {channels}, 8, 12), the pyramid being {channels} channels "
            f"wide; {type(upsample).__name__} gives: {got}"
        )


class UpsamplingPyramid(FeaturePyramidNetwork):  # type: ignore[misc]
    """torchvision's feature pyramid with another upsampling in its top-down path; see `replace_upsampling`."""

    def __init__(self, fpn: FeaturePyramidNetwork, upsample: nn.Module) -> None:
        nn.Module.__init__(self)
        self.inner_blocks = fpn.inner_blocks
        self.layer_blocks = fpn.layer_blocks
        self.extra_blocks = fpn.extra_blocks
        self.upsample = upsample
        self.train(fpn.training)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """Backbone maps, finest first, to pyramid maps of the same names and the extra levels.

        Raises:
            InputError: neighbouring levels differ by more than a factor of two.
        """
        features = list(x.values())
        merged: list[Tensor] = []
        for inner, feature in zip(reversed(self.inner_blocks), reversed(features), strict=True):
            lateral = inner(feature)
            merged.insert(0, lateral + self._upsampled(merged[0], lateral) if merged else lateral)
        results = [layer(level) for layer, level in zip(self.layer_blocks, merged, strict=True)]
        names = list(x)
        if self.extra_blocks is not None:
            results, names = self.extra_blocks(results, features, names)
        return OrderedDict(zip(names, results, strict=True))

    def _upsampled(self, above: Tensor, lateral: Tensor) -> Tensor:
        """`above` at twice its size, cut to `lateral`'s."""
        if any(fine > 2 * coarse for fine, coarse in zip(lateral.shape[-2:], above.shape[-2:], strict=True)):
            raise InputError(
                f"the pyramid's levels of {tuple(above.shape[-2:])} and {tuple(lateral.shape[-2:])} pixels are more "
                "than a factor of two apart; replace_upsampling needs a backbone that halves from level to level"
            )
        return upsample_to(self.upsample, above, lateral)
