"""`torch.save`'s files of either format, read without torch's functions, which believe what a file says of a tensor.

- zip, since torch 1.6: `NAME/data.pkl`, and each storage's bytes, uncompressed, in `NAME/data/KEY`;
- before that: five pickles after each other, then the storages' bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from srfgan.models.weights.arrays import array_names, elements
from srfgan.models.weights.unpickle import (
    DamagedError,
    Function,
    Names,
    RefusedPickleError,
    Source,
    Unpickler,
)

MAGIC = 0x1950A86A20F9469CFC6C
"""What the first pickle of the old format holds."""
_SLACK = 2**20
_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_DTYPES = {
    *_STORAGES.values(),
    *(torch.uint16, torch.uint32, torch.uint64),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
}


@dataclass(frozen=True, eq=False)
class Storage:
    """A storage's bytes, (N,) uint8, and the number type of tensors on it that name none."""

    content: Tensor
    dtype: torch.dtype

    def fill(self, file: IO[bytes]) -> None:
        """Read its bytes.

        Raises:
            DamagedError: there are fewer.
        """
        place: Any = self.content.numpy()
        if len(place) and file.readinto(memoryview(place)) != len(place):  # type: ignore[attr-defined]
            raise DamagedError("it ends too early")
        if self.dtype == torch.bool:
            self.content.clamp_(max=1)  # other bytes make no bool


@dataclass(frozen=True)
class StorageType:
    """A storage's class, as a persistent id has it."""

    dtype: torch.dtype


def load_zip(path: Path) -> Any:
    """The object in a file of the zip format.

    Raises:
        RefusedPickleError: it asks for more than tensors, arrays and containers, or unpacks to more than it has.
        Exception: of nearly any kind, where it is damaged.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        found = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(found) != 1:
            raise DamagedError(
                "a zip archive, but not torch's: unpack it, and name the file with the weights"
            )
        folder = found[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in members:
            raise RefusedPickleError("it is a TorchScript program; save its state_dict()")
        used = [member for name, member in members.items() if name.startswith(folder)]
        if any(member.compress_type != zipfile.ZIP_STORED for member in used):
            raise RefusedPickleError(
                "its content is compressed, as torch never does; unpacked it could be any size"
            )
        if sum(member.file_size for member in archive.infolist()) > size:
            raise RefusedPickleError("its members are said to be larger than the file")
        if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
            raise RefusedPickleError(
                "it was written on a machine of the other byte order; save it again there"
            )

        def fill(storage: Storage, key: str) -> None:
            member = members[f"{folder}data/{key}"]
            if member.file_size < len(storage.content):
                raise DamagedError(f"storage {key} has {member.file_size} bytes, not {len(storage.content)}")
            with archive.open(member) as file:
                storage.fill(file)

        pickled = archive.read(found[0])
        source = Source(io.BytesIO(pickled), len(pickled))
        return Unpickler(source, torch_names(size), _storages(size, fill)).load()


def load_old(file: IO[bytes], size: int) -> Any:
    """The object in a file of the old format, from behind its first pickle.

    Raises:
        RefusedPickleError: it asks for more than tensors, arrays and containers.
        Exception: of nearly any kind, where it is damaged.
    """
    source = Source(file, size)
    Unpickler(source, {}).load()  # the format's version
    system = Unpickler(source, {}).load()
    if system.get("little_endian") is not True:
        raise RefusedPickleError("it was written on a machine of the other byte order; save it again there")
    waiting: dict[str, Storage] = {}

    def wait(storage: Storage, key: str) -> None:
        waiting[key] = storage

    result = Unpickler(source, torch_names(size), _storages(size, wait)).load()
    for key in Unpickler(source, {}).load():
        source.read(8)  # how many numbers, which the pickle has said
        waiting.pop(key).fill(file)
    if waiting:
        raise DamagedError("it ends too early")
    return result


def torch_names(file_size: int) -> Names:
    """What a pickle of tensors names."""

    def tensor(
        storage: Any, offset: Any, size: Any, stride: Any, _grad: Any = None, _hooks: Any = None, *rest: Any
    ) -> Tensor:
        dtype = next((part for part in rest if isinstance(part, torch.dtype)), None)
        return _tensor(storage, offset, size, stride, dtype, file_size)

    def parameter(data: Any, *_: Any) -> Tensor:
        if not isinstance(data, Tensor):
            raise RefusedPickleError("it has a parameter that is no tensor")
        return data

    def typed(function: Any, kind: Any, arguments: Any, _state: Any) -> Tensor:
        if not isinstance(function, Function) or kind not in ("torch.Tensor", "torch.nn.Parameter"):
            raise RefusedPickleError("it has a tensor of a class of its own")
        return parameter(function.call(*arguments))

    return {
        **array_names(file_size),
        **{("torch", f"{name}Storage"): StorageType(dtype) for name, dtype in _STORAGES.items()},
        ("torch.storage", "UntypedStorage"): StorageType(torch.uint8),
        **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in _DTYPES},
        ("torch", "Tensor"): "torch.Tensor",
        ("torch.nn.parameter", "Parameter"): "torch.nn.Parameter",
        ("torch", "Size"): Function(lambda sizes=(): tuple(sizes)),
        ("torch", "device"): Function(lambda kind="", *_: str(kind)),
        ("torch._utils", "_rebuild_tensor"): Function(tensor),
        ("torch._utils", "_rebuild_tensor_v2"): Function(tensor),
        ("torch._utils", "_rebuild_tensor_v3"): Function(tensor),
        ("torch._utils", "_rebuild_parameter"): Function(parameter),
        ("torch._utils", "_rebuild_parameter_with_state"): Function(parameter),
        ("torch._tensor", "_rebuild_from_type_v2"): Function(typed),
    }


def _storages(file_size: int, fill: Callable[[Storage, str], None]) -> Callable[[Any], Storage]:
    """Gives the storage of a persistent id; each is filled once, which `fill` does or puts off."""
    known: dict[str, Storage] = {}
    left = file_size

    def storage(identity: Any) -> Storage:
        nonlocal left
        kind, of, key, _place, count, *view = identity
        if kind != "storage" or not isinstance(of, StorageType) or not isinstance(key, str):
            raise RefusedPickleError("it refers to something other than a storage")
        if any(part is not None for part in view):
            raise RefusedPickleError("it has views of storages, as torch before 0.4")
        if key not in known:
            size = elements((count,)) * of.dtype.itemsize
            left -= size
            if left < 0:
                raise DamagedError("its storages are said to be larger than the file")
            known[key] = Storage(torch.empty(size, dtype=torch.uint8), of.dtype)
            fill(known[key], key)
        if known[key].dtype != of.dtype:
            raise RefusedPickleError("it has a storage of two number types")
        return known[key]

    return storage


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None, file_size: int
) -> Tensor:
    """A view of a storage.

    Raises:
        RefusedPickleError: it reaches beyond the storage, or repeats it to more than a file could hold.
    """
    if not isinstance(storage, Storage):
        raise RefusedPickleError("it has a tensor without a storage")
    dtype = dtype or storage.dtype
    if dtype != storage.dtype and torch.bool in (dtype, storage.dtype):
        raise RefusedPickleError("it has a tensor of other numbers than its storage")
    count, available = elements(size), len(storage.content) // dtype.itemsize
    elements(stride)
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if type(offset) is not int or offset < 0 or (count and last >= available):
        raise RefusedPickleError(f"it has a tensor of shape {tuple(size)} that its storage has no room for")
    if count * dtype.itemsize > max(file_size + _SLACK, len(storage.content)):
        raise RefusedPickleError(f"it has a tensor of shape {tuple(size)}, more than the file holds")
    if not count:
        return torch.zeros(size, dtype=dtype)
    whole = storage.content[: available * dtype.itemsize]
    return whole.view(dtype).as_strided(tuple(size), tuple(stride), offset)
