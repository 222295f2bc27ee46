"""Autocast for tensors of the meta device, which torch has none for: dtypes come out as on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from srfgan.models.ops.recomputation import autocast_again

_PRODUCTS = {
    *(torch.conv2d, F.conv2d, torch.conv_transpose2d, F.conv_transpose2d, F.linear, torch.addmm),
    *(torch.mm, torch.bmm, torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.bmm),
    F.scaled_dot_product_attention,
}
_IN_FLOAT32 = {
    F.softplus,
    F.softmax,
    torch.softmax,
    Tensor.softmax,
    F.log_softmax,
    F.l1_loss,
    F.cross_entropy,
}


class MetaAutocast(TorchFunctionMode):
    """Convolutions and matrix products in `dtype`, losses and softmax in float32.

    As torch's own, it rounds each trained weight once and keeps that until the block ends, and activation checkpointing
    computes under it again.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self._rounded: dict[Tensor, Tensor] = {}

    def __exit__(self, *raised: Any) -> None:
        self._rounded.clear()
        super().__exit__(*raised)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """`func` of the arguments in its dtype."""
        kwargs = kwargs or {}
        if func is autocast_again:
            return MetaAutocast(self._dtype)
        if func in _PRODUCTS:
            args, kwargs = [self._round(x) for x in args], {key: self._round(x) for key, x in kwargs.items()}
        elif func in _IN_FLOAT32:
            args = [x.float() if isinstance(x, Tensor) and x.dtype == self._dtype else x for x in args]
        return func(*args, **kwargs)

    def _round(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or x.dtype != torch.float32:
            return x
        if not (x.is_leaf and x.requires_grad):
            return x.to(self._dtype)
        if x not in self._rounded:
            self._rounded[x] = x.to(self._dtype)
        return self._rounded[x]
