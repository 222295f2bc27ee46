"""Which upsampler goes where: one for each width, or one for each place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from srfgan.models.errors import InputError, kind_of
from srfgan.models.factory import build_upsampler
from srfgan.models.modes import evaluating
from srfgan.models.replacement.places import Place
from srfgan.models.replacement.scope import Assignment
from srfgan.models.upsamplers.seam import doubled

GIVE = 'give a name, as "srf", or what makes one from a number of channels, as lambda channels: ...'


def pyramid_width(fpn: FeaturePyramidNetwork) -> int:
    """Channels of all its levels."""
    return int(next(fpn.layer_blocks.parameters()).shape[0])


class Supply:
    """Hands out upsamplers, each tried on a small map first.

    Args:
        upsample: as `replace_upsampling` takes it.
        shared: one for all maps of as many channels.
        dtype: of those that are made here.
    """

    def __init__(
        self, upsample: str | nn.Module | Callable[[int], nn.Module], shared: bool, dtype: torch.dtype
    ) -> None:
        self._given = upsample if isinstance(upsample, nn.Module) else None
        self._make: Any = partial(build_upsampler, upsample) if isinstance(upsample, str) else upsample
        self._shared, self._dtype = shared, dtype
        self._made: dict[int, nn.Module] = {}
        self._registered: set[nn.Module] = set()

    def for_pyramid(self, fpn: FeaturePyramidNetwork) -> nn.Module:
        """One for all levels of torchvision's pyramid, or a list of one for each but the coarsest."""
        width, device = pyramid_width(fpn), next(fpn.parameters()).device
        levels = 1 if self._shared else len(fpn.inner_blocks) - 1
        upsamplers = [self._take(width, device) for _ in range(levels)]
        self._registered.update(upsamplers)
        return upsamplers[0] if self._shared else nn.ModuleList(upsamplers)

    def for_place(self, place: Place) -> tuple[Assignment, dict[str, nn.Module]]:
        """Upsamplers for a module, and those among them which it is the first to use.

        Raises:
            InputError: they are guided.
        """
        keys, upsamplers = {}, {}
        for width, count in place.widths.items():
            for before in range(count):
                one = self._shared or count == 1
                keys[width, before] = str(width) if one else f"{width}_{before}"
                if keys[width, before] not in upsamplers:
                    upsamplers[keys[width, before]] = self._take(width, place.device)
        for upsampler in upsamplers.values():
            if getattr(upsampler, "guided", False):
                raise InputError(
                    f"{type(upsampler).__name__} is guided by the finer map, which the interpolation in {place.name} "
                    "does not get; choose a plain upsampler"
                )
        own = {key: one for key, one in upsamplers.items() if one not in self._registered}
        self._registered.update(own.values())
        elsewhere = {key: one for key, one in upsamplers.items() if key not in own}
        return Assignment(place.name, keys, frozenset(place.runs), elsewhere), own

    def _take(self, width: int, device: torch.device) -> nn.Module:
        if self._given is None and (width not in self._made or not self._shared):
            made = self._make(width)
            if not isinstance(made, nn.Module):
                raise InputError(f"upsample makes {kind_of(made)} for {width} channels, not a module; {GIVE}")
            self._made[width] = made.to(device, self._dtype)
        upsampler = self._given or self._made[width]
        check_doubles(upsampler, width, device, self._dtype)
        return upsampler


def check_doubles(upsample: nn.Module, channels: int, device: torch.device, dtype: torch.dtype) -> None:
    """Try `upsample` on a small map of so many channels, and leave it as it was.

    Raises:
        InputError: it gives something else than the map at twice its size.
    """
    own = next(upsample.parameters(), torch.empty(0, device=device, dtype=dtype))
    try:
        with torch.no_grad(), evaluating(upsample):
            coarse, fine = own.new_zeros(1, channels, 4, 6), own.new_zeros(1, channels, 8, 12)
            found: Any = tuple(doubled(upsample, coarse, fine).shape)
    except Exception as error:
        found = str(error).split("\n")[0]
    if found != (1, channels, 8, 12):
        raise InputError(
            f"upsample must map (1, {channels}, 4, 6) to (1, {channels}, 8, 12), the maps being {channels} channels "
            f"wide; {type(upsample).__name__} gives: {found}"
        )
