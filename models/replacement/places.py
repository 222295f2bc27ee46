"""What upsamples maps in a model, found by running it once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from srfgan.models.modes import evaluating
from srfgan.models.replacement.calls import Resizing, resizing


@dataclass
class Place:
    """A module whose forward interpolates by two.

    Attributes:
        name: of the module in the model; its class's for the model itself.
        module: it.
        runs: for each time that its forward ran, the widths (channels) of the maps that it doubled, in order; none
            where it doubled nothing that time, as one block of all levels does at the coarsest.
        device: of those maps.
    """

    name: str
    module: nn.Module
    runs: set[tuple[int, ...]]
    device: torch.device

    @property
    def widths(self) -> dict[int, int]:
        """How many maps of each width one forward doubles at most."""
        seen = {width for run in self.runs for width in run}
        return {width: max(run.count(width) for run in self.runs) for width in sorted(seen)}


@dataclass
class Found:
    """What a run interpolated.

    Attributes:
        places: by two, in the order in which their first forward ended.
        maps: what was doubled, in order: the module's name and the map (N, C, H, W).
        others: by something else: the module's name and the sizes, as "head: 8x8 to 32x32".
    """

    places: list[Place] = field(default_factory=list)
    maps: list[tuple[str, Tensor]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def find_places(module: nn.Module, run: Callable[[], Any]) -> Found:
    """Run once, without gradients and with `module` in evaluation mode, and see what its parts interpolate.

    A call belongs to the innermost part of `module` whose forward is running; calls outside of it are not looked at.
    """
    recorder = _Recorder({id(part): name for name, part in module.named_modules()}, type(module).__name__)
    with evaluating(module), ExitStack() as hooks, torch.no_grad():
        for part in module.modules():
            # Scripted ones take no hooks, and of their calls nothing is seen.
            if isinstance(part, torch.jit.ScriptModule):
                continue
            for handle in recorder.watch(part):
                hooks.callback(handle.remove)
        with recorder:
            run()
    return recorder.found


class _Recorder(TorchFunctionMode):
    """Notes the calls of `interpolate`, and by hooks which module's forward each is made in."""

    def __init__(self, names: Mapping[int, str], root: str) -> None:
        super().__init__()
        self.found = Found()
        self._names, self._root = names, root
        self._running: list[tuple[nn.Module, list[Tensor]]] = []
        self._runs: dict[nn.Module, set[tuple[int, ...]]] = {}

    def watch(self, module: nn.Module) -> list[Any]:
        """Hooks that tell when the module's forward begins and ends; their handles."""
        return [
            module.register_forward_pre_hook(lambda part, _: self._running.append((part, []))),
            module.register_forward_hook(lambda *_: self._ended(), always_call=True),
        ]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = kwargs or {}
        if func is F.interpolate and self._running:
            call = resizing(*args, **arguments)
            if call is not None and call.enlarges:
                self._note(call)
        return func(*args, **arguments)

    def _name(self, module: nn.Module) -> str:
        return self._names[id(module)] or self._root

    def _note(self, call: Resizing) -> None:
        module, doubled = self._running[-1]
        if call.doubles_a_feature_map:
            doubled.append(call.coarse)
            self.found.maps.append((self._name(module), call.coarse))
        elif not call.doubles:
            old, new = ("x".join(map(str, size)) for size in (call.coarse.shape[-2:], call.size))
            self.found.others.append(f"{self._name(module)}: {old} to {new}")

    def _ended(self) -> None:
        module, doubled = self._running.pop()
        runs = self._runs.setdefault(module, set())
        runs.add(tuple(coarse.shape[1] for coarse in doubled))
        if doubled and all(place.module is not module for place in self.found.places):
            # With its own set, to which later forwards and earlier ones belong alike.
            self.found.places.append(Place(self._name(module), module, runs, doubled[0].device))
