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
        name_of: the new name of one of its tensors, such as `lateral.p2.weight`. All of a layer's tensors stay
            together and keep the last part of their names; a parameter may also go anywhere by itself.
    """

    def __init__(self, module: nn.Module, name_of: Callable[[str], str]) -> None:
        super().__init__()
        # In a tuple, so that torch does not list its layers a second time.
        self._renamed = (module,)
        for path, layer in module.named_modules():
            names = {key: name_of(f"{path}.{key}") for key in [*layer._parameters, *layer._buffers]}
            if not names:
                continue
            if all(name.split(".")[-1] == key for key, name in names.items()):
                _put(self, next(iter(names.values())).split(".")[:-1], layer)
            else:
                for key, parameter in layer._parameters.items():
                    *above, last = names[key].split(".")
                    _place(self, above).register_parameter(last, parameter)

    def forward(self, *arguments: Any) -> Any:
        """What the module gives for these arguments."""
        return self._renamed[0](*arguments)

    def train(self, mode: bool = True) -> Renamed:
        """Training or evaluation mode, also of layers without tensors, which have no name here."""
        self._renamed[0].train(mode)
        super().train(mode)
        return self


def _put(root: nn.Module, path: list[str], layer: nn.Module) -> None:
    if not layer._modules:
        _place(root, path[:-1]).add_module(path[-1], layer)
        return
    # Its layers may go elsewhere: only its own tensors are placed, in dicts that both share.
    place = _place(root, path)
    place._parameters, place._buffers = layer._parameters, layer._buffers
    place._non_persistent_buffers_set = layer._non_persistent_buffers_set


def _place(root: nn.Module, path: list[str]) -> nn.Module:
    """The module at `path`, made on the way where there is none."""
    for name in path:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        below = root._modules[name]
        assert below is not None
        root = below
    return root
