"""What a module computes from its weights once, and again when these have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

Values = TypeVar("Values")


def _tell_of_step(optimizer: Optimizer, *_: Any) -> None:
    """Count an optimizer's step as the change of its parameters that it is: torch's fused ones do not say so."""
    torch.autograd.graph.increment_version([p for group in optimizer.param_groups for p in group["params"]])


register_optimizer_step_post_hook(_tell_of_step)


class Remembered(Generic[Values]):
    """Tensors that are computed from others, again only when one of these has changed, moved or been replaced.

    A copy of the module that has it starts with none.
    """

    def __init__(self) -> None:
        # With each source another tensor of its memory, which cannot be given to other values meanwhile.
        self._sources: list[tuple[Tensor, Tensor, int, int]] = []
        self._values: Values | None = None

    def of(self, sources: Sequence[Tensor], compute: Callable[[], Values]) -> Values:
        """What `compute` makes of the `sources`, now or at an earlier call."""
        if torch.compiler.is_compiling():
            return compute()
        if self._values is not None and self._unchanged(sources):
            return self._values
        if not all(map(_tells_of_changes, sources)):
            return compute()
        # Made in inference mode, they could take no part in a training step.
        with torch.inference_mode(mode=False), torch.no_grad():
            self._values = compute()
            self._sources = [(x, x.detach(), x._version, x.data_ptr()) for x in sources]
        return self._values

    def _unchanged(self, sources: Sequence[Tensor]) -> bool:
        if len(sources) != len(self._sources):
            return False
        for now, (before, _, version, address) in zip(sources, self._sources, strict=True):
            if now is not before or now._version != version or now.data_ptr() != address:
                return False
        return True

    def __deepcopy__(self, memo: dict[int, object]) -> Remembered[Values]:
        return Remembered()

    def __reduce__(self) -> tuple[type[Remembered[Values]], tuple[()]]:
        return Remembered, ()


def _tells_of_changes(x: Tensor) -> bool:
    """Fake tensors have no memory, those made in inference mode no version."""
    return type(x) in (Tensor, nn.Parameter) and not x.is_inference()
