"""Weight files of every supported format as one dict of tensors under our names.

- pickles: detectron2's model zoo and the MSRA ImageNet weights; numpy arrays only, anything else is refused;
- safetensors; those of `srfgan export --format hub` say in their header, under `srfgan`, what they are of;
- `torch.save`'s: detectron2's and AFI-GAN's `{"model": ...}`, bare state dicts, and our own checkpoints
  `{"format": "srfgan", "modules": {"detector": ...}, ...}`.
"""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

from srfgan.models.config import ModelConfig, parse_model
from srfgan.models.errors import InputError, kind_of
from srfgan.models.weights.arrays import Array, array_names
from srfgan.models.weights.names import all_to_ours, is_derived
from srfgan.models.weights.torch_files import MAGIC, load_old, load_zip
from srfgan.models.weights.unpickle import DamagedError, RefusedPickleError, Source, Unpickler

FORMAT = "srfgan"
MAX_TENSORS = 20_000
"""The largest detectors have some 2,000; names are looked up one by one."""
MAX_NAME = 300
_HEADER = 16 * 2**20
"""Bytes of a safetensors header; MAX_TENSORS of the longest names fit in."""
_DEPTH, _PARTS = 20, 100_000
_OTHER_FILES = {
    b"PK\x05\x06": "an empty zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x89HDF": "an HDF5 file, which holds other networks",
    b"\x93NUMPY": "a numpy file of one array",
}


@dataclass(frozen=True)
class Checkpoint:
    """The content of a weight file.

    Attributes:
        path: the file.
        tensors: by our names: a detector's as in its `state_dict()`, others with `generator.` or
            `discriminator.` in front.
        stage: the stage that wrote it, of our own checkpoints; None for other files.
        model: how its detector was built, of our own checkpoints that hold one.
        categories: the data set's categories, of our own checkpoints.
        config: the whole experiment that it is of, as plain data, of our own checkpoints.
        iteration: how far its training was, of our own checkpoints that say so.
    """

    path: Path
    tensors: dict[str, Tensor] = field(repr=False)
    stage: str | None = None
    model: dict[str, Any] | None = None
    categories: list[Any] | None = None
    config: dict[str, Any] | None = None
    iteration: int | None = None

    def model_config(self) -> ModelConfig | None:
        """`model`, checked; None where there is none.

        Raises:
            InputError: it is of a version of this program with other options.
        """
        if self.model is None:
            return None
        try:
            return parse_model(self.model)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"][1:])  # behind the detector
            raise InputError(
                f"{self.path}: written by another version of srfgan, whose model this one cannot build "
                f"({key}: {first['msg']})"
            ) from None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a weight file; its content decides how, not its name.

    Raises:
        InputError: if `path` is no path, if the file is missing, truncated, no checkpoint, or a pickle of anything
            but arrays.
    """
    if not isinstance(path, str | Path):
        raise InputError(f"a weight file is named by its path, not by {kind_of(path)}")
    path = Path(path)
    content = read_content(path)
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        return _own_checkpoint(path, content)
    found = _tensors(path, content)
    tensors = {ours: found[name] for name, ours in all_to_ours(found).items()}
    tensors = {name: value for name, value in tensors.items() if not is_derived(name)}
    return Checkpoint(path, _with_statistics(tensors))


def read_foreign(path: Path) -> dict[str, Tensor] | None:
    """The tensors of another project's file by that project's names; None where the file is a checkpoint of ours.

    Raises:
        InputError: as `read_checkpoint`.
    """
    content = read_content(path)
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        return None
    return _tensors(path, content)


def read_content(path: Path) -> Any:
    """What is in a weight file: containers, texts, numbers, tensors, and `Array`s. None of it has run code, and
    none is larger than the file by more than a small factor.

    Raises:
        InputError: as `read_checkpoint`.
    """
    require_file(path)
    try:
        return _read(path)
    except RefusedPickleError as error:
        raise InputError(
            f"{path}: refused, this file holds more than arrays and could run code: {error}"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise InputError(f"{path}: does not fit into memory") from None
    except BaseException as error:
        # Damaged files make the readers raise nearly anything; safetensors' may panic, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = _look(path) or _reason(error)
        raise InputError(f"{path}: cannot be read as weights: {reason}") from None


def require_file(path: Path) -> None:
    """Whether there is a file with something in it.

    Raises:
        InputError: there is not; says what is there.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: no such weight file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(mode):
        inside = path / "model.pt"
        hint = f"{inside}" if inside.is_file() else "the file in it"
        raise InputError(f"{path}: no such weight file, but a folder; name {hint}")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: no such weight file, but a device or pipe")


def _read(path: Path) -> Any:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(9)
        file.seek(0)
        if path.suffix == ".safetensors" or (head[8:] == b"{" and _header(head) <= size):
            return _read_safetensors(path, size, head)
        if head.startswith(b"PK\x03\x04"):
            return load_zip(path)
        content = Unpickler(Source(file, size), array_names(size)).load()
        # True == 1, but no number type equals this.
        return load_old(file, size) if content == MAGIC else content


def _header(head: bytes) -> int:
    return int.from_bytes(head[:8], "little")


def _read_safetensors(path: Path, size: int, head: bytes) -> Any:
    if _header(head) > min(size, _HEADER):
        raise DamagedError("the header is said to be longer than any")
    with safetensors.safe_open(path, "pt") as file:
        own = (file.metadata() or {}).get(FORMAT)
    tensors = safetensors.torch.load_file(path)
    if own is None:
        return tensors
    said = json.loads(own)
    if not isinstance(said, dict):
        raise DamagedError("what it says of itself is no mapping")
    return {**said, "format": FORMAT, "modules": {"detector": tensors}}


def _look(path: Path) -> str | None:
    """What a file that is no checkpoint is, as far as its first bytes tell; people have often seen these."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "it is empty, as where writing, copying or fetching it was cut off"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, which stands for the file; fetch that with `git lfs pull`"
    if path.suffix.lower() in (".onnx", ".xml"):
        return (
            "it is an exported network, which predict and eval take; name the checkpoint that it comes from"
        )
    for start, what in _OTHER_FILES.items():
        if head.startswith(start):
            return f"it is {what}; unpack it, and name the file with the weights"
    if head[257:262] == b"ustar":
        return "it is a tar archive; unpack it, and name the file with the weights"
    try:
        text = head.decode("utf-8", "strict" if len(head) < 512 else "ignore").strip().lower()
    except UnicodeDecodeError:
        return None
    if text.startswith(("<!doctype", "<html", "<?xml", "<head")):
        return "it is a web page, which came in the place of the file; fetch it again, as in a browser"
    if text.isprintable() or all(letter.isprintable() or letter.isspace() for letter in text):
        return f"it is a text file that begins with {text.split(chr(10))[0][:40]!r}"
    return None


def _reason(error: BaseException) -> str:
    if isinstance(error, DamagedError | zipfile.BadZipFile):
        return f"{error} (truncated, or not a checkpoint)"
    told = str(error).strip().split("\n")[0][:200]
    return f"truncated, or not a checkpoint ({type(error).__name__}{': ' if told else ''}{told})"


def _own_checkpoint(path: Path, content: Mapping[str, Any]) -> Checkpoint:
    modules, stage = content.get("modules"), content.get("stage", "")
    model, categories, config = (content.get(key) for key in ("model", "categories", "config"))
    if not isinstance(modules, Mapping) or not all(isinstance(state, Mapping) for state in modules.values()):
        raise InputError(f"{path}: a checkpoint of ours without 'modules'; it is damaged")
    plain = isinstance(model, dict | None) and isinstance(config, dict | None)
    if not isinstance(stage, str) or not plain or not is_small([model, categories, config]):
        raise InputError(f"{path}: a checkpoint of ours that does not say what it is; it is damaged")
    tensors = {
        name if module == "detector" else f"{module}.{name}": value
        for module, state in modules.items()
        for name, value in state.items()
        if isinstance(name, str)
    }
    iteration = content.get("iteration")
    iteration = iteration if type(iteration) is int else None
    return Checkpoint(path, _checked(path, tensors), stage, model, categories, config, iteration)


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """The named tensors in what a reader gave, whatever wraps them."""
    for wrapper in ("model", "state_dict", "blobs"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a dict of named tensors")
    tensors = {}
    for name, value in content.items():
        tensor = value.tensor if isinstance(value, Array) else value
        if isinstance(name, str) and isinstance(tensor, Tensor):
            tensors[name] = tensor
    if not tensors:
        raise InputError(f"{path}: holds no tensors")
    return _checked(path, tensors)


def _checked(path: Path, tensors: dict[str, Any]) -> dict[str, Tensor]:
    """What a file calls its tensors, if they can be a network's.

    Raises:
        InputError: they cannot; names one.
    """
    if len(tensors) > MAX_TENSORS:
        raise InputError(f"{path}: holds {len(tensors):,} tensors, more than any detector")
    for name, value in tensors.items():
        if len(name) > MAX_NAME:
            raise InputError(f"{path}: has a tensor with a name of {len(name)} letters, {name[:40]!r}...")
        if not isinstance(value, Tensor) or value.is_complex() or value.layout != torch.strided:
            what = f"{value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"{path}: {name} is a {what}, not a tensor of real numbers")
    return tensors


def is_small(value: Any) -> bool:
    """Whether plain data is no larger, and no deeper nested, than what a checkpoint says of itself."""
    waiting, seen = [(value, 0)], 0
    while waiting:
        one, depth = waiting.pop()
        seen += 1
        if depth > _DEPTH or seen > _PARTS:
            return False
        inside = [*one.keys(), *one.values()] if isinstance(one, Mapping) else one
        if isinstance(inside, list | tuple | set | frozenset):
            waiting += [(part, depth + 1) for part in inside]
    return True


def _with_statistics(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add mean 0 and variance 1 to convolutions' norms that have none: Caffe2 stores folded scale and shift."""
    suffix = ".norm.weight"
    norms = [name for name in tensors if name.endswith(suffix)]
    for name in [name for name in norms if f"{name.removesuffix(suffix)}.weight" in tensors]:
        prefix = name.removesuffix("weight")
        shape = tensors[name].shape
        tensors.setdefault(f"{prefix}running_mean", torch.zeros(()).expand(shape))
        tensors.setdefault(f"{prefix}running_var", torch.ones(()).expand(shape))
    return tensors
