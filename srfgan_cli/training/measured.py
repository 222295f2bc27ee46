"""What the loop measures at every iteration: kept on the device until a checkpoint or the log needs it."""

from __future__ import annotations

import math
from typing import Generic, TypedDict, TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", Tensor, float)


class Measured(TypedDict, Generic[Number]):
    """One iteration's losses, and the norms of each optimizer's whole gradient before clipping."""

    losses: dict[str, Number]
    norms: dict[str, Number]


def on_host(pending: list[Measured[Tensor]]) -> list[Measured[float]]:
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


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each name's finite values; the gradients of a skipped fp16 step are not."""
    finite = {name: [row[name] for row in rows if math.isfinite(row[name])] for name in rows[0]}
    return {name: sum(values) / len(values) for name, values in finite.items() if values}
