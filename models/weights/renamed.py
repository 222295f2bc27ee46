"""A module under other names, for frameworks whose checkpoints and optimizers call its layers differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class Renamed(nn.Module):
    """A module whose parameters and buffers are found under other names, in `state_dict` and everywhere else.

    The layers are the same objects, reached by other paths; the module keeps computing by its own. What
    replaces layers afterwards (`SyncBatchNorm.convert_sync_batchnorm`) must therefore be done before.

    Args:
        module: does the work.
        name_of: the new name of one of its tensors, such as `lateral.p2.weight`; all tensors of a layer stay
            together, with their last part as it is.
    """

    def __init__(self, module: nn.Module, name_of: Callable[[str], str]) -> None:
        super().__init__()
        # In a tuple, so that torch does not list its layers a second time.
        self._renamed = (module,)
        for path, layer in module.named_modules():
            tensors = [*layer._parameters, *layer._buffers]
            if tensors:
                _put(self, name_of(f"{path}.{tensors[0]}").split(".")[:-1], layer)

    def forward(self, *arguments: Any) -> Any:
        """What the module gives for these arguments."""
        return self._renamed[0](*arguments)

    def train(self, mode: bool = True) -> Renamed:
        """Training or evaluation mode, also of layers without tensors, which have no name here."""
        self._renamed[0].train(mode)
        super().train(mode)
        return self


def _put(root: nn.Module, path: list[str], layer: nn.Module) -> None:
    *above, last = path
    for name in above:
        root = _child(root, name)
    if not layer._modules:
        root.add_module(last, layer)
        return
    # Its layers may go elsewhere: only its own tensors are placed, in dicts that both share.
    place = _child(root, last)
    place._parameters, place._buffers = layer._parameters, layer._buffers
    place._non_persistent_buffers_set = layer._non_persistent_buffers_set


def _child(parent: nn.Module, name: str) -> nn.Module:
    if name not in parent._modules:
        parent.add_module(name, nn.Module())
    child = parent._modules[name]
    assert child is not None
    return child
