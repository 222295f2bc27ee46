"""Exponential moving averages of the trained networks (EMA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_NOT_AVERAGED = "discriminator"  # it judges the generator as that is now


class Average:
    """Averages of a stage's networks, all but the discriminator: weights and statistics alike.

    After the first step an average is the network itself, later decay * average + (1 - decay) * network.

    Args:
        modules: the stage's.
        decay: of every optimizer step; None keeps no averages.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float | None) -> None:
        self._modules = modules
        self._averaged: dict[str, AveragedModel] = {}
        if decay is not None:
            kept = {name: module for name, module in modules.items() if name != _NOT_AVERAGED}
            rule = get_ema_multi_avg_fn(decay)
            for name, module in kept.items():
                self._averaged[name] = AveragedModel(module, multi_avg_fn=rule, use_buffers=True)
                self._averaged[name].requires_grad_(False)

    def __bool__(self) -> bool:
        """Whether averages are kept."""
        return bool(self._averaged)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What to evaluate and save, by the names of the stage: the averages, and networks without one."""
        return {**self._modules, **{name: average.module for name, average in self._averaged.items()}}

    def update(self) -> None:
        """Take in the networks after an optimizer step."""
        for name, average in self._averaged.items():
            average.update_parameters(self._modules[name])

    def load_state(self, modules: Mapping[str, dict[str, Any]]) -> None:
        """Continue from the state dicts of `modules`."""
        for name, average in self._averaged.items():
            average.module.load_state_dict(modules[name])
            average.n_averaged.fill_(1)  # only whether there were any counts
