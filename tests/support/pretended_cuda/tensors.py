"""Tensors that say they lie on a GPU and hold their values on the host.

To Python such a tensor is of `cuda:0`. To C++ it is of a device that neither is the CPU nor has kernels here (XLA),
with CUDA's dispatch keys: whatever moves between it and the host comes through the dispatcher, autocast casts it as it
does CUDA's tensors, and autograd looks neither for a stream nor for a driver.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet

CUDA = torch.device("cuda", 0)
BEHIND = torch.device("xla", 0)
"""What C++ takes CUDA for."""

_KEYS = DispatchKeySet(DispatchKey.CUDA)
for _key in (DispatchKey.AutogradCUDA, DispatchKey.AutocastCUDA):
    _KEYS = _KEYS | DispatchKeySet(_key)


class PretendedTensor(Tensor):
    """`held`, a tensor of the host, as if it lay on the GPU. Only `pretended_cuda` can compute with it."""

    held: Tensor
    number = False
    """Whether Python gave the one value; CUDA leaves such a tensor on the host."""

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendedTensor:
        # A view of a parameter is no inference tensor either, wherever it is made.
        with torch.inference_mode(False):
            made = Tensor._make_wrapper_subclass(
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=BEHIND,
                _extra_dispatch_keys=_KEYS,
            )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a pretended GPU tensor outside of the pretence")

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    def get_device(self) -> int:
        return 0

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 else repr(self)

    def __repr__(self, **_: Any) -> str:
        return f"PretendedTensor({tuple(self.shape)}, {self.dtype})"

    def __deepcopy__(self, memo: dict[int, Any]) -> PretendedTensor:
        copy = PretendedTensor(self.held.detach().clone()).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        return memo.setdefault(id(self), copy)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A file's tensors are read to the CPU."""
        return self.held.detach().__reduce_ex__(protocol)


def is_cuda(device: Any) -> bool:
    """Whether `device`, of any kind that torch takes, is the pretended one."""
    return device is not None and torch.device(device).type in (CUDA.type, BEHIND.type)


def held(value: Any) -> Any:
    """What `value` holds, if it is of the device; containers as a whole."""
    if isinstance(value, PretendedTensor):
        return value.held
    if type(value) in (list, tuple):
        return type(value)(held(item) for item in value)
    if type(value) is dict:
        return {key: held(item) for key, item in value.items()}
    return value


def tensors_in(value: Any, found: list[Tensor] | None = None) -> list[Tensor]:
    """All tensors in an operation's arguments."""
    found = [] if found is None else found
    if isinstance(value, Tensor):
        found.append(value)
    elif type(value) in (list, tuple):
        for item in value:
            tensors_in(item, found)
    elif type(value) is dict:
        for item in value.values():
            tensors_in(item, found)
    return found
