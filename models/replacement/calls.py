"""One call of `torch.nn.functional.interpolate`: which map it resizes, and to what."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

_MODES = ("nearest", "nearest-exact", "bilinear", "bicubic")
_PICTURES = (1, 3)
"""Channels of masks and images, both of which torchvision's detectors enlarge in their forward."""


class Resizing(NamedTuple):
    """What a call of `interpolate` does to a feature map.

    Attributes:
        coarse: the map, (N, C, H, W) of floats.
        size: what it is resized to, (h, w).
        doubles: by two: a scale factor of 2, or a size of 2H or 2H - 1 by 2W or 2W - 1, as the map that the result is
            added to has it where a side was rounded up.
    """

    coarse: Tensor
    size: tuple[int, int]
    doubles: bool

    @property
    def enlarges(self) -> bool:
        """Whether the result has more pixels in a direction."""
        height, width = self.coarse.shape[-2:]
        return bool(self.size[0] > height or self.size[1] > width)

    @property
    def doubles_a_feature_map(self) -> bool:
        """Whether it doubles what is neither a mask nor an image."""
        return self.doubles and self.coarse.shape[1] not in _PICTURES


def resizing(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *_: Any, **__: Any
) -> Resizing | None:
    """The call with these arguments, which are `interpolate`'s; None where it resizes no feature map."""
    if not (isinstance(input, Tensor) and input.dim() == 4 and input.is_floating_point() and mode in _MODES):
        return None
    height, width = input.shape[-2:]
    if size is None:
        by = _pair(scale_factor)
        return Resizing(input, (int(height * by[0]), int(width * by[1])), by[0] == 2 and by[1] == 2)
    new = _pair(size)
    doubles = 2 * height - 1 <= new[0] <= 2 * height and 2 * width - 1 <= new[1] <= 2 * width
    return Resizing(input, (new[0], new[1]), bool(doubles))


def _pair(value: Any) -> tuple[Any, Any]:
    return (value[0], value[1]) if isinstance(value, tuple | list) else (value, value)
