"""Modules whose interpolations by two go through upsamplers: each stays what it is and gets a class that sees to it.

`nn.Upsample` gets a subclass with another forward. Any other module calls `interpolate` somewhere inside its own
forward; its subclass runs that forward under a `TorchFunctionMode`, to which torch hands every call of `interpolate`
that is made meanwhile. No function of torch or of another package is patched, and no source is looked at.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from srfgan.models.errors import InputError
from srfgan.models.replacement.calls import Resizing, resizing

REGISTERED = "upsamplers"
"""Where a module has its upsamplers: an attribute of it, and so a part of their parameters' names."""


@dataclass(frozen=True)
class Assignment:
    """Which upsampler takes which map of a module.

    Attributes:
        name: of the module, for messages.
        keys: of the upsamplers, by the map's channels and how many maps of as many the same forward has doubled before.
        runs: the channels of the maps that one forward may double, in order.
        elsewhere: by key, upsamplers that another module has registered. `nn.Module` does not see them here, so that
            a parameter has one name.
    """

    name: str
    keys: Mapping[tuple[int, int], str]
    runs: frozenset[tuple[int, ...]]
    elsewhere: Mapping[str, nn.Module]


def take_over(module: nn.Module, assignment: Assignment, own: Mapping[str, nn.Module]) -> None:
    """From now on, `module` interpolates by two with the assigned upsamplers; `own` are those that it registers."""
    # In the mode of what they come to: in training mode, a detector's batch norms would go by each image that it sees.
    module.add_module(REGISTERED, nn.ModuleDict(own).train(module.training))
    module._assignment = assignment  # type: ignore[assignment]
    kind: Any = type(module)
    module.__class__ = _UpsampleLayer if is_upsample(module) else _scoped(kind)


def is_upsample(module: nn.Module) -> bool:
    """Whether it is torch's own layer, which does nothing but interpolate."""
    return isinstance(module, nn.Upsample) and type(module).forward is nn.Upsample.forward


def is_taken_over(module: nn.Module) -> bool:
    """Whether `take_over` was called with it."""
    return isinstance(module, _UpsampleLayer | _Scoped)


class _UpsampleLayer(nn.Upsample):
    """`nn.Upsample` with upsamplers for the maps that it is known to get."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W), or a row or column less where it has a fixed size."""
        call = resizing(input, self.size, self.scale_factor, self.mode)
        if call is None or not call.doubles:
            raise InputError(
                f"{_assignment(self).name} got a map of shape {tuple(input.shape)}, which it cannot double"
            )
        if not call.doubles_a_feature_map:
            # One layer may enlarge a network's maps and, at its end, its masks.
            enlarged: Tensor = super().forward(input)
            return enlarged
        return _doubled(self, call, 0)


class _Scoped:
    """Beside a module's own class: its forward's calls of `interpolate` are caught; see `_scoped`."""

    _original: type[nn.Module]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Copies and pickles name the original class, from which this one is made again."""
        reduced: Any = super().__reduce_ex__(max(protocol, 2))
        return (_new, (self._original,), *reduced[2:])


def _new(kind: Any) -> nn.Module:
    scoped = _scoped(kind)
    return scoped.__new__(scoped)


@functools.cache
def _scoped(kind: Any) -> type[nn.Module]:
    """A subclass of `kind`, by the same name, whose forward is `kind`'s with the interpolations by two replaced."""

    @functools.wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        seen: list[int] = []
        with _Doublings(self, seen):
            result = kind.forward(self, *args, **kwargs)
        _check_complete(_assignment(self), seen)
        return result

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (_Scoped, kind), {**names, "_original": kind, "forward": forward})


class _Doublings(TorchFunctionMode):
    """While it is on, `interpolate` by two is a call of the module's upsamplers; `seen` gets the maps' channels."""

    def __init__(self, module: nn.Module, seen: list[int]) -> None:
        super().__init__()
        self.module, self.seen = module, seen

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = kwargs or {}
        call = resizing(*args, **arguments) if func is F.interpolate else None
        if call is None or not call.doubles_a_feature_map:
            return func(*args, **arguments)
        channels = int(call.coarse.shape[1])
        before = self.seen.count(channels)
        self.seen.append(channels)
        return _doubled(self.module, call, before)


def _doubled(module: nn.Module, call: Resizing, before: int) -> Tensor:
    """The map through its upsampler, cut to the size that was asked for."""
    assignment = _assignment(module)
    channels = int(call.coarse.shape[1])
    key = assignment.keys.get((channels, before))
    if key is None:
        raise InputError(_other(assignment, f"{before + 1} of {channels}"))
    own: Any = getattr(module, REGISTERED)
    upsampler = own[key] if key in own else assignment.elsewhere[key]
    # An upsampler may interpolate itself, and the forward of a module around this one may be watched too.
    with torch._C.DisableTorchFunction():
        new: Tensor = upsampler(call.coarse)
    return new[..., : call.size[0], : call.size[1]]


def _check_complete(assignment: Assignment, seen: list[int]) -> None:
    if tuple(seen) not in assignment.runs:
        raise InputError(_other(assignment, " and ".join(map(str, seen)) or "none"))


def _other(assignment: Assignment, found: str) -> str:
    known = ", or ".join(" and ".join(map(str, run)) or "none" for run in sorted(assignment.runs))
    return (
        f"{assignment.name} interpolates other maps by two than when its upsampling was replaced: of {known} channels "
        f"then, {found} now. Levels must be a factor of two apart, and every forward must upsample as that one did; "
        "replace_upsampling can be given a smaller part of the model"
    )


def _assignment(module: nn.Module) -> Assignment:
    assignment: Any = module._assignment
    return assignment  # type: ignore[no-any-return]
