"""numpy's arrays and the standard containers in a pickle, made from shape, number type and bytes without numpy's
own functions, which believe every state that a file gives them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srfgan.models.weights.unpickle import Built, Function, Names, RefusedPickleError, hashable

_NUMBERS = frozenset(("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"))
_ORDERS = ("<", ">", "=", "|")


class Budget:
    """Bytes that a file may have made of it: arrays may share their bytes, so that few can stand for many."""

    def __init__(self, file_size: int) -> None:
        self._left = 4 * file_size + 2**20

    def spend(self, count: int) -> None:
        """Take some.

        Raises:
            RefusedPickleError: none are left.
        """
        self._left -= count
        if self._left < 0:
            raise RefusedPickleError("it repeats its content to many times its size")


class NumberType(Built):
    """A numpy dtype: of numbers, or of texts, which are passed over.

    Raises:
        RefusedPickleError: of anything else, such as objects.
    """

    def __init__(self, name: Any, *_: Any) -> None:
        name = name.decode("ascii") if isinstance(name, bytes) else name
        if not isinstance(name, str):
            raise RefusedPickleError("it has a dtype without a name")
        self.order = name[0] if name[:1] in _ORDERS else "="
        self.name = name.removeprefix(self.order)
        self.is_text = self.name[:1] in ("S", "U")
        if not self.is_text and self.name not in _NUMBERS:
            raise RefusedPickleError(f"it has an array of dtype {name[:20]!r}, which are no numbers")

    def set_state(self, state: Any) -> None:
        """(version, byte order, ...), of which only the order is anything that a number has."""
        if state[1] not in _ORDERS or any(part is not None for part in state[2:5]):
            raise RefusedPickleError("it has a dtype of several parts")
        self.order = state[1]

    def array(self, raw: bytes, shape: tuple[int, ...], order: str) -> np.ndarray:
        """An array of native byte order of its own.

        Args:
            raw: exactly the array's bytes.
            shape: its numbers are counted and not negative.
            order: `C` or `F`.
        """
        # Bytes that are neither 0 nor 1 make no bool.
        stored = np.dtype(self.order + ("u1" if self.name == "b1" else self.name))
        values: np.ndarray = np.ndarray(shape, stored, raw, order="F" if order == "F" else "C")
        return (
            np.asarray(values != 0)
            if self.name == "b1"
            else values.astype(stored.newbyteorder("="), order="C")
        )

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return int(self.name[1:])


@dataclass(eq=False)
class Array(Built):
    """A numpy array; `tensor` is None before its state is set, and for texts."""

    budget: Budget
    tensor: Tensor | None = None

    def set_state(self, state: Any) -> None:
        """([version], shape, dtype, whether Fortran's order, bytes)."""
        shape, kind, fortran, raw = state[-4:]
        self.fill(raw, kind, shape, "F" if fortran else "C")

    def fill(self, raw: Any, kind: Any, shape: Any, order: str) -> None:
        """Make the tensor.

        Raises:
            RefusedPickleError: the bytes are not those of such an array.
        """
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw
        if not isinstance(kind, NumberType) or not isinstance(raw, bytes):
            raise RefusedPickleError("it has an array of something other than numbers")
        if kind.is_text:
            return
        if len(raw) != elements(shape) * kind.itemsize:
            raise RefusedPickleError(
                f"it has an array of {len(raw)} bytes that is said to have the shape {shape}"
            )
        self.budget.spend(len(raw))
        self.tensor = torch.from_numpy(kind.array(raw, tuple(shape), order))


def elements(shape: Any) -> int:
    """How many numbers an array of this shape has.

    Raises:
        RefusedPickleError: it is no shape.
    """
    if not isinstance(shape, tuple | list) or len(shape) > 32:
        raise RefusedPickleError("it has an array without a shape")
    if any(type(side) is not int or not 0 <= side < 2**62 for side in shape):
        raise RefusedPickleError("it has an array of an impossible shape")
    return math.prod(shape)


def array_names(file_size: int) -> Names:
    """What a pickle of numpy arrays and plain containers names."""
    budget = Budget(file_size)

    def scalar(kind: Any, raw: Any) -> float | int | bool | None:
        array = Array(budget)
        array.fill(raw, kind, (), "C")
        return None if array.tensor is None else array.tensor.item()

    def from_buffer(raw: Any, kind: Any, shape: Any, order: Any, axes: Any = None) -> Array:
        array = Array(budget)
        array.fill(raw, kind, shape, str(order))
        if axes is not None and array.tensor is not None:
            array.tensor = array.tensor.permute(tuple(axes))
        return array

    def encode(text: Any, encoding: Any) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise RefusedPickleError("it asks for another codec than latin1")
        budget.spend(len(text))
        return str(text).encode("latin-1")

    def blank(*_: Any) -> Array:
        return Array(budget)

    return {
        ("numpy", "ndarray"): "numpy.ndarray",
        ("numpy", "dtype"): Function(NumberType),
        ("numpy.core.multiarray", "_reconstruct"): Function(blank),
        ("numpy.core.multiarray", "scalar"): Function(scalar),
        ("numpy.core.numeric", "_frombuffer"): Function(from_buffer),
        ("collections", "OrderedDict"): Function(_dict),
        ("collections", "Counter"): Function(_dict),
        ("builtins", "set"): Function(lambda items=(): {hashable(item) for item in items}),
        ("builtins", "bytes"): Function(lambda: b""),
        ("builtins", "bytearray"): Function(lambda text="", encoding="latin1": encode(text, encoding)),
        ("_codecs", "encode"): Function(encode),
    }


def _dict(content: Any = ()) -> dict[Any, Any]:
    """A dict, from another one or from pairs, as Python 2 wrote its OrderedDict."""
    pairs = content.items() if isinstance(content, Mapping) else content
    return {hashable(key): value for key, value in pairs}
