"""Which operations make a GPU's host wait, and where in our code they are called from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[3]
OURS = (str(ROOT / "models") + "/", str(ROOT / "srfgan_cli") + "/")

COUNTED_BY_THE_HOST = {
    "aten._local_scalar_dense.default": "item",
    "aten.nonzero.default": "nonzero",
    "aten.masked_select.default": "masked_select",
    "aten._unique2.default": "unique",
    "aten.unique_dim.default": "unique",
    "aten.unique_consecutive.default": "unique",
    "aten.bincount.default": "bincount",
    "aten.equal.default": "equal",
    "aten.allclose.default": "allclose",
    "torchvision.nms.default": "nms",
}
"""Operations whose result's shape or value the host must know, by what the tables call them."""

INDEXING = {
    "aten.index.Tensor",
    "aten.index_put.default",
    "aten.index_put_.default",
    "aten._index_put_impl_.default",
}


def reason(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str | None:
    """Why the host waits for an operation on the device, in a word; None if it does not."""
    if name in COUNTED_BY_THE_HOST:
        return COUNTED_BY_THE_HOST[name]
    if name == "aten.repeat_interleave.Tensor":
        return None if kwargs.get("output_size") is not None else "repeat_interleave"
    if name not in INDEXING:
        return None
    index = [part for part in args[1] if part is not None]
    if any(part.dtype in (torch.bool, torch.uint8) for part in index):
        return None if _fills(name, args) else "index by mask"
    return "index from host" if any(part.device.type == "cpu" and part.ndim for part in index) else None


def _fills(name: str, args: Sequence[Any]) -> bool:
    """One value of the host put where a mask says is written by a kernel that looks at the mask itself."""
    return (
        name != "aten.index.Tensor"
        and args[2].numel() == 1
        and (args[2].device.type == "cpu" or args[2].number)
        and not (len(args) > 3 and args[3])
    )


def place() -> str:
    """module.function of ours that is nearest to the call; of a backward pass, the node that asks."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(OURS):
            return f"{Path(path).stem}.{frame.f_code.co_name}"
        if frame.f_code.co_name == "_engine_run_backward":
            node = torch._C._current_autograd_node()
            return f"backward of {node.name()}" if node is not None else "backward"
        frame = frame.f_back
    return "elsewhere"
