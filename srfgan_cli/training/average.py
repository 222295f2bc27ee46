"""Exponential moving averages of the trained networks (EMA)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_NOT_AVERAGED = "discriminator"  # it judges the generator as that is now


class Average:
    """Averages of a stage's networks, all but the discriminator: weights and statistics alike.

    After the first step an average is the network itself, later decay * average + (1 - decay) * network; what counts,
    as a batch norm's number of batches, is the network's.

    Args:
        modules: the stage's.
        decay: of every optimizer step; None keeps no averages.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float | None) -> None:
        self._modules = modules
        self._averaged: dict[str, nn.Module] = {}
        self._started = False
        if decay is not None:
            self._share = 1 - decay
            for name, module in modules.items():
                if name != _NOT_AVERAGED:
                    self._averaged[name] = copy.deepcopy(module).requires_grad_(False)

    def __bool__(self) -> bool:
        """Whether averages are kept."""
        return bool(self._averaged)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What to evaluate and save, by the names of the stage: the averages, and networks without one."""
        return {**self._modules, **self._averaged}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the networks after an optimizer step: two launches or a few more, and no wait."""
        pairs = [
            pair
            for name, average in self._averaged.items()
            for pair in zip(_values(average), _values(self._modules[name]), strict=True)
        ]
        moving = [(kept, now) for kept, now in pairs if self._started and kept.is_floating_point()]
        copied = [(kept, now) for kept, now in pairs if not (self._started and kept.is_floating_point())]
        if moving:
            torch._foreach_lerp_([kept for kept, _ in moving], [now for _, now in moving], self._share)
        if copied:
            torch._foreach_copy_([kept for kept, _ in copied], [now for _, now in copied])
        self._started = True

    def load_state(self, modules: Mapping[str, dict[str, Any]]) -> None:
        """Continue from the state dicts of `modules`."""
        for name, average in self._averaged.items():
            average.load_state_dict(modules[name])
            self._started = True


def _values(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
