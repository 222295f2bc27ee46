"""Activation checkpointing (Chen et al. 2016): activations are computed again in the backward pass instead of kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import wrap_torch_function
from torch.utils.checkpoint import checkpoint


def in_parts(
    network: nn.Module, parts: Iterable[Callable[[Tensor], Tensor]], x: Tensor, *, recompute: bool
) -> Tensor:
    """`x` through all of the parts, one after the other.

    Args:
        network: that the parts belong to.
        parts: of a sequence, each of its own is computed again by itself.
        recompute: whether only what each is given is kept, and not what it needs in the backward pass. The gradients
            are the same, and batch norms take each map into their statistics once.
    """
    if not recompute or not torch.is_grad_enabled():
        return reduce(lambda y, part: part(y), parts, x)
    contexts = partial(_contexts, network, x)
    single = [one for part in parts for one in (part if isinstance(part, nn.Sequential) else [part])]
    return reduce(
        lambda y, part: checkpoint(
            part, y, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
        ),
        single,
        x,
    )


@wrap_torch_function(lambda x: (x,))
def autocast_again(x: Tensor) -> AbstractContextManager[Any]:
    """The context in which a part is computed again, beside torch's own autocast, which `checkpoint` sees to.

    It changes nothing, unless a torch-function mode answers this call with another: backward passes leave such modes.

    Args:
        x: what the part is given, of any shape.
    """
    return nullcontext()


def _contexts(
    network: nn.Module, x: Tensor
) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Of the forward pass, and of each time that it is gone through again."""
    return nullcontext(), _Both(_StatisticsStandStill(network), autocast_again(x))


class _Both(AbstractContextManager[None]):
    """Two contexts, to be entered anew for each backward pass."""

    def __init__(self, *contexts: AbstractContextManager[Any]) -> None:
        self._contexts = contexts

    def __enter__(self) -> None:
        self._entered = ExitStack()
        for context in self._contexts:
            self._entered.enter_context(context)

    def __exit__(self, *raised: Any) -> None:
        self._entered.__exit__(*raised)


class _StatisticsStandStill(AbstractContextManager[None]):
    """Batch norms in training mode take nothing into their running statistics. Entered once for each backward pass."""

    def __init__(self, network: nn.Module) -> None:
        self._norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]

    def __enter__(self) -> None:
        # Taken now: in the forward pass, copies may have stood in for a discriminator's buffers.
        self._before = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm, (_, count) in zip(self._norms, self._before, strict=True):
            # Synchronised norms count in any case.
            spare = count.clone() if count is not None and isinstance(norm, nn.SyncBatchNorm) else None
            norm.momentum, norm.num_batches_tracked = 0.0, spare

    def __exit__(self, *_: object) -> None:
        for norm, (momentum, count) in zip(self._norms, self._before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
