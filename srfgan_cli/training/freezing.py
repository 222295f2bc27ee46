"""Parameters chosen by patterns of their names, and what is frozen by them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from srfgan.models.errors import InputError
from srfgan_cli.presets.library import did_you_mean

_DROPPED_PATHS = ("DropPath", "StochasticDepth")
"""What timm and torchvision call stochastic depth, by name: neither need be there."""


def matching(names: Iterable[str], pattern: str, key: str, what: str = "parameter") -> list[str]:
    """Those of `names` that the pattern matches.

    Args:
        names: of parameters, dotted.
        pattern: as a shell's; `*` matches dots too.
        key: where it is given, for the message.
        what: the names are of, for the message.

    Raises:
        InputError: there is none; names near ones.
    """
    names = list(names)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        near = did_you_mean(pattern, sorted(set(_possible(names))))
        first = ", ".join(sorted({f"{name.split('.')[0]}.*" for name in names}))
        raise InputError(f"{key}: {pattern!r} matches no {what} ({first}).{near}")
    return found


def freeze(detector: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Freeze the parameters that any of the patterns matches.

    Returns:
        The names of the batch norms that are frozen by it, whose statistics have to stay as they are, and of what
        drops values at random in parts that are.

    Raises:
        InputError: a pattern matches no parameter, or nothing is left to train.
    """
    every = dict(detector.named_parameters())
    frozen = {name for pattern in patterns for name in matching(every, pattern, "finetune.freeze")}
    for name in frozen:
        every[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in every.values()):
        raise InputError(f"finetune.freeze: nothing of the detector is left to train, got {list(patterns)}.")
    norms = {name for name, module in detector.named_modules() if isinstance(module, _NormBase)}
    own = {norm: {f"{norm}.weight", f"{norm}.bias"} & every.keys() for norm in norms}
    for name, module in detector.named_modules():
        if isinstance(module, _DropoutNd) or type(module).__name__ in _DROPPED_PATHS:
            part = f"{name.rpartition('.')[0]}."
            own[name] = {parameter for parameter in every if parameter.startswith(part)}
    return sorted(name for name, parameters in own.items() if parameters and parameters <= frozen)


def _possible(names: Iterable[str]) -> Iterator[str]:
    """Patterns that match something: each name, and everything below each of its parts."""
    for name in names:
        yield name
        parts = name.split(".")
        yield from (".".join(parts[:depth]) + ".*" for depth in range(1, len(parts)))
