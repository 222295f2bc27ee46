"""Weight files of every supported format as one dict of tensors under our names.

- `.pkl`: detectron2's model zoo and the MSRA ImageNet weights; numpy arrays only, anything else is refused;
- `.safetensors`;
- `.pth`, `.pt`: `torch.load(weights_only=True)`, numpy's numbers and arrays allowed; detectron2's and AFI-GAN's
  `{"model": ...}`, bare state dicts, and our own checkpoints `{"format": "srfgan", "modules": {"detector": ...}, ...}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

from models.config import ModelConfig
from models.errors import InputError, kind_of
from models.weights.names import all_to_ours, is_derived
from models.weights.unpickle import ARRAY_NAMES, RefusedPickleError, load_arrays

FORMAT = "srfgan"


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
    """

    path: Path
    tensors: dict[str, Tensor] = field(repr=False)
    stage: str | None = None
    model: dict[str, Any] | None = None
    categories: list[Any] | None = None

    def model_config(self) -> ModelConfig | None:
        """`model`, checked; None where there is none.

        Raises:
            InputError: it is of a version of this program with other options.
        """
        if self.model is None:
            return None
        try:
            return ModelConfig.model_validate(self.model)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"{self.path}: written by another version of srfgan, whose model this one cannot build "
                f"({key}: {first['msg']})"
            ) from None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a weight file.

    Raises:
        InputError: if `path` is no path, if the file is missing, truncated, no checkpoint, or a pickle of anything
            but arrays.
    """
    if not isinstance(path, str | Path):
        raise InputError(f"a weight file is named by its path, not by {kind_of(path)}")
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weight file")
    content = _read(path)
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        return _own_checkpoint(path, content)
    found = _tensors(path, content)
    tensors = {ours: found[name] for name, ours in all_to_ours(found).items()}
    tensors = {name: value for name, value in tensors.items() if not is_derived(name)}
    return Checkpoint(path, _with_statistics(tensors))


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if path.suffix == ".pkl":
            with path.open("rb") as file:
                return load_arrays(file)
        with torch.serialization.safe_globals(ARRAY_NAMES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except RefusedPickleError as error:
        raise InputError(
            f"{path}: refused, this pickle holds more than arrays and could run code: {error}"
        ) from None
    except Exception as error:
        # Damaged files make the readers raise nearly anything; weights_only refusals arrive here too.
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise InputError(
            f"{path}: cannot be read as weights (truncated, not a checkpoint, or it holds objects other than "
            f"tensors): {reason}"
        ) from error


def _own_checkpoint(path: Path, content: Mapping[str, Any]) -> Checkpoint:
    modules = content.get("modules")
    if not isinstance(modules, Mapping):
        raise InputError(f"{path}: a checkpoint of ours without 'modules'; it is damaged")
    tensors = {
        name if module == "detector" else f"{module}.{name}": value
        for module, state in modules.items()
        for name, value in state.items()
    }
    stage, model = str(content.get("stage", "")), content.get("model")
    return Checkpoint(path, tensors, stage, model, content.get("categories"))


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
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            tensors[str(name)] = torch.from_numpy(np.array(value))
        elif isinstance(value, Tensor):
            tensors[str(name)] = value
    if not tensors:
        raise InputError(f"{path}: holds no tensors")
    return tensors


def _with_statistics(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add mean 0 and variance 1 to convolutions' norms that have none: Caffe2 stores folded scale and shift."""
    suffix = ".norm.weight"
    norms = [name for name in tensors if name.endswith(suffix)]
    for name in [name for name in norms if f"{name.removesuffix(suffix)}.weight" in tensors]:
        prefix = name.removesuffix("weight")
        tensors.setdefault(f"{prefix}running_mean", torch.zeros_like(tensors[name]))
        tensors.setdefault(f"{prefix}running_var", torch.ones_like(tensors[name]))
    return tensors
