"""Any upsampler inside torchvision's feature pyramid: the method in detectors that this project did not build."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from models.errors import InputError


def replace_upsampling(fpn: FeaturePyramidNetwork, upsample: nn.Module) -> FeaturePyramidNetwork:
    """The same feature pyramid with `upsample` in place of its nearest-neighbour interpolation.

        detector = torchvision.models.detection.fasterrcnn_resnet50_fpn()
        detector.backbone.fpn = replace_upsampling(detector.backbone.fpn, build_upsampler("srf", 256))

    Args:
        fpn: stays as it is; the result shares its convolutions and extra levels.
        upsample: module mapping (N, C, H, W) to (N, C, 2H, 2W), C being the pyramid's width; one for all levels.

    Returns:
        A pyramid with the original's names in its state dict, and `upsample.` before those of the module.
    """
    return UpsamplingPyramid(fpn, upsample)


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
        """`above` at twice its size, cropped to `lateral`'s, which is a pixel less where a side was odd."""
        height, width = lateral.shape[-2:]
        upsampled: Tensor = self.upsample(above)[:, :, :height, :width]
        if upsampled.shape[-2:] != lateral.shape[-2:]:
            raise InputError(
                f"the pyramid's levels of {tuple(above.shape[-2:])} and {(height, width)} pixels are more than a "
                "factor of two apart; replace_upsampling needs a backbone that halves from level to level"
            )
        return upsampled
