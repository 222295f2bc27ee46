"""The pretence as a whole: every operation on its way, and what torch is told of the machine meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.utils._foreach_utils
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from pretended_cuda.tensors import BEHIND, PretendedTensor, held, is_cuda, tensors_in
from pretended_cuda.waits import INDEXING, place, reason

_COPIES = ("aten._to_copy.default", "aten.copy_.default")
_NEVER_MIXED = ("cat", "stack", "index_select", "gather", "scatter", "mm", "bmm", "addmm", "convolution")


@contextlib.contextmanager
def pretended_cuda() -> Iterator[Pretence]:
    """Inside, `cuda:0` exists.

    Raises:
        UnavailableError: not with this build of torch.
    """
    pretence = Pretence()
    with _machine(pretence), pretence:
        yield pretence


class UnavailableError(Exception):
    """Why the pretence does not work here."""


class Pretence(TorchDispatchMode):
    """Takes every operation on its way.

    Attributes:
        waits: how often the host would have waited, by (module.function, reason).
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str]] = Counter()
        self._pinned: dict[int, Tensor] = {}

    def count(self, why: str) -> None:
        """The host waits here."""
        self.waits[place(), why] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = str(func)
        given = tensors_in(kwargs, tensors_in(args))
        on_device = [x for x in given if isinstance(x, PretendedTensor)]
        asked = next((x for x in (*args, kwargs.get("device")) if isinstance(x, torch.device)), None)
        if not on_device and not is_cuda(asked):
            return self._on_host(func, name, args, kwargs)
        if _is_made_of_others(func):
            with self:
                return func.decompose(*args, **kwargs)
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        if name == "aten._to_copy.default":
            to_device = bool(on_device) if asked is None else is_cuda(asked)
            return self._moved(func, args, kwargs, to_device)
        if name == "aten.copy_.default":
            self._copied(args[0], args[1], bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2])))
        else:
            _require_one_device(name, func, args, [x for x in given if not isinstance(x, PretendedTensor)])
            why = reason(name, args, kwargs)
            if why is not None and on_device:
                self.count(why)
        if name == "aten._pin_memory.default":
            raise RuntimeError("cannot pin a tensor of the device")
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        out = _computed(func, name, held(args), held(kwargs))
        to_device = is_cuda(asked) if asked is not None else bool(on_device)
        if not to_device:
            return out
        made = _wrapped(out, on_device)
        if name == "aten.scalar_tensor.default" and torch.device(asked) == BEHIND:
            made.number = True
        return made

    def _on_host(self, func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if name == "aten.is_pinned.default":
            return self._is_pinned(args[0])
        if name in ("aten.pin_memory.default", "aten._pin_memory.default"):
            return args[0] if self._is_pinned(args[0]) else self._pin(args[0].clone())
        if kwargs.get("pin_memory"):
            return self._pin(func(*args, **{**kwargs, "pin_memory": False}))
        return func(*args, **kwargs)

    def _pin(self, value: Tensor) -> Tensor:
        self._pinned[value.untyped_storage().data_ptr()] = value
        return value

    def _is_pinned(self, value: Tensor) -> bool:
        return value.untyped_storage().data_ptr() in self._pinned

    def _moved(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], to_device: bool) -> Tensor:
        """`aten._to_copy`: to another device, or within one to another dtype or layout."""
        (source,) = args
        ahead = bool(kwargs.pop("non_blocking", False))
        if isinstance(source, PretendedTensor) and not to_device:
            # torch takes page-locked memory for the copy, if it may run on.
            if not ahead:
                self.count("to host")
            copy = func(source.held, **kwargs)
            return self._pin(copy) if ahead else copy
        if to_device and not isinstance(source, PretendedTensor):
            self._sent(source, ahead)
        copy = func(held(source), **kwargs)
        return PretendedTensor(copy) if to_device else copy

    def _copied(self, target: Tensor, source: Tensor, ahead: bool) -> None:
        """`aten.copy_`."""
        if not isinstance(source, PretendedTensor):
            self._sent(source, ahead)
        elif not isinstance(target, PretendedTensor) and not (ahead and self._is_pinned(target)):
            self.count("to host")

    def _sent(self, source: Tensor, ahead: bool) -> None:
        """A copy to the device; from pageable memory the host sees it through."""
        if not self._is_pinned(source):
            self.count("from pageable memory")
        elif not ahead:
            self.count("from host")


def _computed(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """`func`, of a convolution's float16 gradients in float32, as tensor cores sum: a CPU takes 100 times as long."""
    if name != "aten.convolution_backward.default" or args[0].dtype != torch.float16:
        return func(*args, **kwargs)
    wide = tree_map_only(Tensor, Tensor.float, args)
    return tree_map_only(Tensor, Tensor.half, func(*wide, **kwargs))


def _is_made_of_others(func: Any) -> bool:
    """Whether an operation is one only by name; in inference mode those come whole."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def _require_one_device(name: str, func: Any, args: Sequence[Any], hosts: Sequence[Tensor]) -> None:
    """Raises what CUDA would. A number may be of the host, and an index of what is on the device."""
    if not hosts:
        return
    index = name in INDEXING and isinstance(args[0], PretendedTensor)
    if index:
        hosts = [x for x in args[2:3] if not isinstance(x, PretendedTensor)]
    operation = func._schema.name.split("::")[1]
    strict = not name.startswith("aten.") or operation.rstrip("_") in _NEVER_MIXED
    written = (
        operation.endswith("_") and isinstance(args[0], Tensor) and not isinstance(args[0], PretendedTensor)
    )
    bad = [x for x in hosts if x.ndim > 0 or strict]
    if bad or written:
        shapes = [tuple(x.shape) for x in bad or hosts]
        raise RuntimeError(
            f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu {shapes}"
        )


def _wrapped(out: Any, on_device: Sequence[PretendedTensor]) -> Any:
    """Results as tensors of the device; what was changed in place is itself again."""
    if isinstance(out, Tensor):
        for x in on_device:
            if x.held is out:
                if x.shape != out.shape or x.stride() != out.stride():
                    raise NotImplementedError("a pretended tensor cannot change its shape in place")
                return x
        return PretendedTensor(out)
    if isinstance(out, (list, tuple)):
        return type(out)(_wrapped(item, on_device) for item in out)
    return out


@contextlib.contextmanager
def _machine(pretence: Pretence) -> Iterator[None]:
    """torch as it would be with one GPU, as far as Python asks."""
    state = torch.zeros(16, dtype=torch.uint8)
    answers = {
        "is_available": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "_exchange_device": lambda device: 0,
        "_maybe_exchange_device": lambda device: 0,
        "is_bf16_supported": lambda *_, **__: True,
        "get_rng_state": lambda *_, **__: state.clone(),
        "set_rng_state": lambda *_, **__: None,
        "max_memory_allocated": lambda *_, **__: 0,
        "synchronize": lambda *_: pretence.count("synchronize"),
        "is_current_stream_capturing": lambda: False,
        "current_stream": lambda *_: _Stream(pretence),
        "Event": lambda *_, **__: _Stream(pretence),
    }
    foreach = torch.utils._foreach_utils
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(
            mock.patch.object(torch.accelerator, "current_stream", lambda *_: _Stream(pretence))
        )
        stack.enter_context(mock.patch.object(nn.Module, "to", _module_to(nn.Module.to)))
        stack.enter_context(
            mock.patch.object(foreach, "_foreach_supported_types", [torch.Tensor, PretendedTensor])
        )
        stack.enter_context(
            mock.patch.object(foreach, "_get_foreach_kernels_supported_devices", lambda: ["cuda", "xla"])
        )
        # What cuDNN and the fused attentions would take is left to the kernels that a CPU has.
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(_guard_without_driver())
        stack.enter_context(_tensors_made_on_the_host())
        yield


class _Stream:
    """A stream, or an event of one: nothing runs ahead here."""

    def __init__(self, pretence: Pretence) -> None:
        self._pretence = pretence

    def record(self, stream: Any = None) -> None:
        pass

    def is_capturing(self) -> bool:
        return False

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        self._pretence.count("synchronize")


def _module_to(real: Any) -> Any:
    """`Module.to`, which to a GPU changes parameters in place; the pretended ones are new objects, shared as before."""

    def to(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        device = next((x for x in (*args, *kwargs.values()) if isinstance(x, (str, torch.device))), None)
        if not is_cuda(device):
            return real(self, *args, **kwargs)
        made: dict[Tensor, Tensor] = {}
        for module in self.modules():
            for values in (module._parameters, module._buffers):
                for name, value in values.items():
                    if value is not None and not isinstance(value, PretendedTensor):
                        values[name] = made.setdefault(value, _on_device(value))
        return self

    return to


def _on_device(value: Tensor) -> Tensor:
    moved = PretendedTensor(value.detach())
    return nn.Parameter(moved, value.requires_grad) if isinstance(value, nn.Parameter) else moved


@contextlib.contextmanager
def _guard_without_driver() -> Iterator[None]:
    """Autograd asks every device's guard for the current stream; the CPU's guard, which has none to give, answers."""
    cpu, xla = 0, 9  # c10::DeviceType
    try:
        library = ctypes.CDLL(str(next(Path(torch.__file__).parent.glob("lib/libc10.*"))))
        guards = (ctypes.c_void_p * (xla + 1)).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    except (StopIteration, OSError, ValueError) as error:
        raise UnavailableError(
            f"torch's registry of device guards is not where it should be: {error}"
        ) from None
    if not guards[cpu] or guards[xla]:
        raise UnavailableError("torch's registry of device guards is not as it should be")
    guards[xla] = guards[cpu]
    try:
        yield
    finally:
        guards[xla] = None


@contextlib.contextmanager
def _tensors_made_on_the_host() -> Iterator[None]:
    """`torch.tensor(values, device=...)` as it is: made on the host, then copied."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
