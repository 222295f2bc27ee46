"""What the loop measures at every iteration: kept on the device until a checkpoint or the log needs it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypedDict, TypeVar

import torch
from torch import Tensor, nn

from srfgan.models.errors import InputError
from srfgan_cli.machine.distributed import World

Number = TypeVar("Number", Tensor, float)


class Measured(TypedDict, Generic[Number]):
    """One iteration's losses, and the norms of each optimizer's whole gradient before clipping."""

    losses: dict[str, Number]
    norms: dict[str, Number]


@dataclass
class Measurements:
    """The iterations' numbers between two lines of the log.

    Attributes:
        unlogged: those that are on the host and known to be finite; a checkpoint keeps them.
        pending: later ones, on the device.
    """

    world: World
    unlogged: list[Measured[float]] = field(default_factory=list)
    pending: list[Measured[Tensor]] = field(default_factory=list)

    def add(self, losses: dict[str, Tensor], norms: dict[str, Tensor]) -> None:
        """Keep an iteration's numbers where they are."""
        self.pending.append({"losses": losses, "norms": norms})

    def settle(self, iteration: int) -> None:
        """Bring what was measured up to `iteration` to the host in one go.

        Raises:
            InputError: a loss is not finite on any process; names it and its iteration.
        """
        measured = _on_host(self.pending)
        self.pending = []
        problem = ""
        for number, row in enumerate(measured, start=iteration - len(measured) + 1):
            bad = [name for name, value in row["losses"].items() if not math.isfinite(value)]
            if bad and not problem:
                problem = f"{bad[0]} is {row['losses'][bad[0]]} at iteration {number}"
        self._stop_at(problem)
        self.unlogged += measured

    def check_weights(self, modules: Mapping[str, nn.Module], iteration: int) -> None:
        """A finite loss can have a gradient that is not: never replace a good checkpoint by such weights.

        Raises:
            InputError: a parameter is not finite on any process.
        """
        problem = ""
        for name, module in modules.items():
            finite = torch.stack([p.detach().isfinite().all() for p in module.parameters()]).all()
            if not problem and not bool(finite):
                problem = f"the {name}'s weights are not finite at iteration {iteration}"
        self._stop_at(problem)

    def take_means(self) -> dict[str, dict[str, float]]:
        """`losses` and `gradient_norms`: the means since the last time, of settled iterations."""
        rows, self.unlogged = self.unlogged, []
        return {
            "losses": _means([row["losses"] for row in rows]),
            "gradient_norms": _means([row["norms"] for row in rows]),
        }

    def _stop_at(self, problem: str) -> None:
        problems = [p for p in self.world.gather(problem) if p]
        if problems:
            raise InputError(
                f"Training stopped: {problems[0]}. The last checkpoint is kept. A lower learning rate (--set "
                "<stage>.solver.lr=...), a longer warm-up or solver.clip_norm usually helps, in a run that starts anew "
                "(--overwrite): --resume goes on from the checkpoint, if there is one, with the settings that led here."
            )


def _on_host(pending: list[Measured[Tensor]]) -> list[Measured[float]]:
    """The same numbers as floats, moved from the device all at once."""
    if not pending:
        return []
    rows = [[*row["losses"].values(), *row["norms"].values()] for row in pending]
    values = torch.stack([torch.stack([v.float() for v in row]) for row in rows]).tolist()
    found: list[Measured[float]] = []
    for row, numbers in zip(pending, values, strict=True):
        split = len(row["losses"])
        losses = dict(zip(row["losses"], numbers[:split], strict=True))
        found.append({"losses": losses, "norms": dict(zip(row["norms"], numbers[split:], strict=True))})
    return found


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each name's finite values; the gradients of a skipped fp16 step are not."""
    finite = {name: [row[name] for row in rows if math.isfinite(row[name])] for name in rows[0]}
    return {name: sum(values) / len(values) for name, values in finite.items() if values}
