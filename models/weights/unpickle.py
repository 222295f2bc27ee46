"""Unpickling of numpy arrays and nothing else.

A pickle can name any function of the machine and call it. detectron2's `.pkl` files need only the few names
below, so every other one is refused before anything is called.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any

import numpy as np


class RefusedPickleError(pickle.UnpicklingError):
    """The pickle asks for something other than numpy arrays and plain containers."""


def load_arrays(file: IO[bytes]) -> Any:
    """The object pickled in `file`: plain containers, strings, numbers and numpy arrays.

    Raises:
        RefusedPickleError: if it names any other class or function; nothing of it has been run.
    """
    return _ArrayUnpickler(file, encoding="latin1").load()


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 renamed numpy.core; files of either age are read by either version.
        known = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise RefusedPickleError(f"it asks for {module}.{name}")
        return known


def _latin1(text: str, encoding: str) -> bytes:
    """Stand-in for `codecs.encode`, which old pickles use to carry bytes."""
    if encoding != "latin1":
        raise RefusedPickleError(f"it asks for the codec {encoding}")
    return text.encode("latin1")


def _reducer(value: np.ndarray | np.generic, protocol: int) -> Callable[..., Any]:
    """The private numpy function that rebuilds `value`, found without importing it by name."""
    reduced = value.__reduce_ex__(protocol)
    assert isinstance(reduced, tuple)
    function: Callable[..., Any] = reduced[0]
    return function


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reducer(np.zeros(1), 2),
    ("numpy.core.multiarray", "scalar"): _reducer(np.float32(0), 2),
    ("numpy.core.numeric", "_frombuffer"): _reducer(np.zeros(1), 5),
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1,
}

ARRAY_NAMES: list[Any] = [
    *(
        (known, f"{module}.{name}")
        for (module, name), known in _ALLOWED.items()
        if module.startswith("numpy")
    ),
    *(
        (known, f"{module.replace('numpy.core', 'numpy._core')}.{name}")
        for (module, name), known in _ALLOWED.items()
        if module.startswith("numpy.core")
    ),
    *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"},
]
"""The same for `torch.serialization.safe_globals`: training programs store scores and the like as numpy numbers."""
