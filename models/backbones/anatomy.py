"""What a network of timm's is made of, seen by running it once on tensors without memory.

Every family names and orders its parts in its own way. The graph that autograd keeps of one forward pass tells for all
of them alike which parameters an output rests on, and which batch norm takes a convolution's result and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from srfgan.models.backbones.timm_names import check_name
from srfgan.models.errors import InputError

LEVELS = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
"""A backbone's outputs and their strides in pixels."""

_HEIGHT, _WIDTH = 96, 160
"""Multiples of 32, as a detector pads images to, and of no window or training size."""
_OPTIONS: tuple[dict[str, Any], ...] = ({}, {"strict_img_size": False})
"""How a network may be made to take images of any size; the first that does is right."""


@dataclass(frozen=True)
class Anatomy:
    """One network, as `features_only` makes it; parameters and modules are called as in that.

    Attributes:
        options: further arguments of `timm.create_model`.
        indices: which of its outputs is which level.
        channels: of each level.
        channels_last: whether its outputs are (N, H, W, C).
        stem: the parameters that any output finer than stride 4 rests on or, where the network gives none, that the
            part which ends in res2 gets its input from; None if neither can be told.
        behind: the parameters that each level rests on.
        joints: convolutions and the batch norms that alone take their results.
    """

    options: dict[str, Any]
    indices: dict[str, int]
    channels: dict[str, int]
    channels_last: bool
    stem: frozenset[str] | None
    behind: dict[str, frozenset[str]]
    joints: dict[str, str]


@cache
def anatomy_of(name: str) -> Anatomy:
    """The anatomy of timm's network `name`, with or without a tag.

    Raises:
        InputError: timm has none of this name, it does not take images of any size, or has not all the levels.
    """
    check_name(name)
    failures: list[Exception] = []
    for options in _OPTIONS:
        try:
            with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.device("meta"):
                body = timm.create_model(name, features_only=True, **options).eval()
                return _seen(body, options)
        except InputError as error:
            raise InputError(f"timm/{name} cannot be a backbone: {error}") from None
        except Exception as error:  # of any kind: a network's own complaint about the image
            failures.append(error)
    reason = f"{type(failures[0]).__name__}: {failures[0]}".strip(": ").split("\n")[0][:200]
    raise InputError(
        f"timm/{name} cannot be a backbone: it gives no feature maps of an image of {_HEIGHT} x {_WIDTH} pixels "
        f"({reason})"
    )


def _seen(body: Any, options: dict[str, Any]) -> Anatomy:
    info = body.feature_info
    strides, widths = list(info.reduction()), list(info.channels())
    if not set(LEVELS.values()) <= set(strides):
        # The place for a plain ViT with a simple pyramid on top: it has one stride only.
        raise InputError(f"it has maps of strides {strides}, wanted are 4, 8, 16 and 32")
    last = {stride: place for place, stride in enumerate(strides)}
    places = {level: last[stride] for level, stride in LEVELS.items()}
    channels = {level: widths[place] for level, place in places.items()}
    with torch.enable_grad(), _inputs_of(body, info.module_name()[places["res2"]]) as before_res2:
        maps = body(torch.empty(1, 3, _HEIGHT, _WIDTH))
    names = {id(parameter): name for name, parameter in body.named_parameters()}

    def named(outputs: Iterable[Tensor]) -> frozenset[str]:
        return frozenset(names[id(node.variable)] for node in _nodes(outputs) if hasattr(node, "variable"))

    finer = [one for one, stride in zip(maps, strides, strict=True) if stride < LEVELS["res2"]]
    stem = finer or before_res2
    taken = {level: maps[place] for level, place in places.items()}
    return Anatomy(
        options,
        # Without being asked, some networks leave out their first output.
        {level: info.out_indices[place] for level, place in places.items()},
        channels,
        _is_channels_last(taken, channels),
        named(stem) if stem else None,
        {level: named([one]) for level, one in taken.items()},
        _joints(list(taken.values()), names),
    )


@contextmanager
def _inputs_of(body: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """The tensors that the module of a name is called with while this is open."""
    found: list[Tensor] = []
    # timm's wrappers rename `stages.0` to `stages_0`.
    modules = {key.replace(".", "_"): module for key, module in body.named_modules()}
    module = modules.get(name.replace(".", "_"), nn.Identity())
    handle = module.register_forward_pre_hook(
        lambda _, given: found.extend(x for x in given if isinstance(x, Tensor))
    )
    yield found
    handle.remove()


def _is_channels_last(maps: dict[str, Tensor], channels: dict[str, int]) -> bool:
    found = [tuple(one.shape) for one in maps.values()]
    sizes = [(_HEIGHT // stride, _WIDTH // stride) for stride in LEVELS.values()]
    for last, make in ((False, lambda c, s: (1, c, *s)), (True, lambda c, s: (1, *s, c))):
        if found == [make(*pair) for pair in zip(channels.values(), sizes, strict=True)]:
            return last
    raise InputError(f"of an image of {_HEIGHT} x {_WIDTH} pixels it gives maps of {found}")


def _joints(maps: Sequence[Tensor], names: dict[int, str]) -> dict[str, str]:
    nodes = list(_nodes(maps))
    uses = Counter(after for node in nodes for after, _ in node.next_functions)
    uses.update(output.grad_fn for output in maps)
    joints = {}
    for norm in (node for node in nodes if type(node).__name__ == "NativeBatchNormBackward0"):
        conv = norm.next_functions[0][0]
        if type(conv).__name__ != "ConvolutionBackward0" or uses[conv] > 1:
            continue
        of_conv, of_norm = (node.next_functions[1][0] for node in (conv, norm))
        if all(hasattr(weight, "variable") and uses[weight] == 1 for weight in (of_conv, of_norm)):
            conv_name, norm_name = (names[id(weight.variable)] for weight in (of_conv, of_norm))
            joints[conv_name.removesuffix(".weight")] = norm_name.removesuffix(".weight")
    return joints


def _nodes(outputs: Iterable[Tensor]) -> Iterator[Any]:
    """Every node of the graph behind some tensors, once."""
    seen: set[Node] = set()
    waiting: list[Node | None] = [output.grad_fn for output in outputs]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [after for after, _ in node.next_functions]
            yield node
