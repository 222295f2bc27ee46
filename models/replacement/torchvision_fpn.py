"""Any upsampler inside torchvision's feature pyramid, guided ones too, as its code and its widths are known."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from srfgan.models.errors import InputError
from srfgan.models.upsamplers.seam import upsample_to


def is_pyramid(module: nn.Module) -> bool:
    """Whether it is torchvision's feature pyramid, with its own forward."""
    return isinstance(module, FeaturePyramidNetwork) and type(module).forward is FeaturePyramidNetwork.forward


class UpsamplingPyramid(FeaturePyramidNetwork):  # type: ignore[misc]
    """torchvision's feature pyramid with another upsampling in its top-down path; see `replace_upsampling`.

    Args:
        fpn: whose blocks, hooks and other attributes are shared with it.
        upsample: one for all levels, or an `nn.ModuleList` of one for each but the coarsest, finest first.
    """

    def __init__(self, fpn: FeaturePyramidNetwork, upsample: nn.Module) -> None:
        self.__dict__.update(fpn.__dict__)
        self._modules = dict(fpn._modules)  # `fpn` itself stays without the upsampling
        self.upsample = upsample.train(fpn.training)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """Backbone maps, finest first, to pyramid maps of the same names and the extra levels.

        Raises:
            InputError: neighbouring levels differ by more than a factor of two.
        """
        features = list(x.values())
        laterals = [block(feature) for block, feature in zip(self.inner_blocks, features, strict=True)]
        merged = [laterals[-1]]
        for level in range(len(laterals) - 2, -1, -1):
            merged.insert(0, laterals[level] + self._upsampled(level, merged[0], laterals[level]))
        results = [layer(level) for layer, level in zip(self.layer_blocks, merged, strict=True)]
        names = list(x)
        if self.extra_blocks is not None:
            results, names = self.extra_blocks(results, features, names)
        return OrderedDict(zip(names, results, strict=True))

    def _upsampled(self, level: int, above: Tensor, lateral: Tensor) -> Tensor:
        """`above` at twice its size, cut to `lateral`'s."""
        if any(fine > 2 * coarse for fine, coarse in zip(lateral.shape[-2:], above.shape[-2:], strict=True)):
            raise InputError(
                f"the pyramid's levels of {tuple(above.shape[-2:])} and {tuple(lateral.shape[-2:])} pixels are more "
                "than a factor of two apart; replace_upsampling needs a backbone that halves from level to level"
            )
        upsample = self.upsample[level] if isinstance(self.upsample, nn.ModuleList) else self.upsample
        with torch._C.DisableTorchFunction():  # the forward of a module around it may be watched: `scope.py`
            return upsample_to(upsample, above, lateral)
