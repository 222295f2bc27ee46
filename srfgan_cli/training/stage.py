"""The seam between the training loop and what it trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from srfgan.models.detector import Detector
from srfgan_cli.data.loaders import Batch


class Stage(Protocol):
    """What one training command optimises.

    The loop moves the batch to the device, takes the dicts of losses that `losses` yields one after the
    other, each summed and back-propagated (scaled, averaged over processes) before the next is asked for,
    and then steps every optimizer.
    """

    modules: dict[str, nn.Module]
    """What a checkpoint holds, by name: `detector`, `generator`, `discriminator`."""
    optimizers: dict[str, Optimizer]
    parallel: list[nn.Module]
    """The wrapped modules whose gradients the processes average; the loop delays that while accumulating."""
    detector: Detector | None
    """What periodic evaluation scores; None where the stage trains no detector."""

    def train(self) -> None:
        """Put every module in the mode it trains in (frozen ones stay in evaluation mode)."""

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """Scalar losses of one batch, weights applied, one dict per backward pass."""
