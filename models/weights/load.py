"""Loading weights into a detector, a generator or a discriminator, with a report of what fitted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from srfgan.models.detector import Detector
from srfgan.models.discriminator import Discriminator
from srfgan.models.errors import InputError, kind_of
from srfgan.models.upsamplers.generators import AFIGenerator, SRFGenerator
from srfgan.models.weights.files import Checkpoint, read_checkpoint
from srfgan.models.weights.names import is_derived
from srfgan.models.weights.report import LoadReport, compare


def load_weights(
    module: nn.Module,
    source: str | Path | Checkpoint,
    *,
    parts: Sequence[str] = (),
    strict: bool = False,
    warn: bool = True,
) -> LoadReport:
    """Load a weight file into `module`; warns where part of the module keeps its values, mostly random ones.

    So does a head of other classes than the file's.

    Args:
        module: a detector, or a generator or discriminator on its own. A generator is taken from a file of
            its own or out of a detector's neck; a detector's neck takes a lone generator in.
        source: detectron2's, AFI-GAN's or SRF-GAN's file, ImageNet weights, our own checkpoint; or what
            `read_checkpoint` gave of one.
        parts: load only what lies below these names, for example `("backbone", "neck")` or
            `("neck.upsample",)`; the report is about these only.
        strict: refuse a file that does not fit in every tensor.
        warn: False for callers that show the report themselves.

    Raises:
        InputError: if the arguments are of other types, if the file cannot be read, if it fits less than half of
            the (parts of the) module, if weights are whole or not finite numbers, or with `strict` if anything does
            not fit. The module is then unchanged.
    """
    _check_arguments(module, source, parts)
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    report = load_tensors(module, _relevant(module, checkpoint.tensors), str(checkpoint.path), parts, strict)
    if warn and (report.missing or report.mismatched):
        warnings.warn(
            f"this {type(module).__name__} is not all from the file: what follows keeps its values, which are random "
            f"where it was just built\n{report.summary()}{_other_classes(module, checkpoint)}",
            stacklevel=2,
        )
    return report


def _other_classes(module: nn.Module, checkpoint: Checkpoint) -> str:
    stored = checkpoint.model or {}
    count, wanted = (
        stored.get("num_classes"),
        module.config.num_classes if isinstance(module, Detector) else None,
    )
    if wanted is None or not isinstance(count, int) or count == wanted:
        return ""
    return f"\n  The file is of {count} classes, this detector has {wanted}."


def _check_arguments(module: Any, source: Any, parts: Any) -> None:
    if not isinstance(module, nn.Module):
        raise InputError(
            f"load_weights takes a module and a file, in this order; module is {kind_of(module)}"
        )
    if isinstance(source, Mapping):
        raise InputError(
            f"source is {kind_of(source)}; load_weights reads files, module.load_state_dict takes tensors"
        )
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise InputError(f"parts is {parts!r}; give a list of names, as ['backbone', 'neck']")


def _relevant(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that concern `module`, under its own names."""
    generator, discriminator = _below(tensors, "generator."), _below(tensors, "discriminator.")
    if isinstance(module, Discriminator):
        return discriminator
    if isinstance(module, SRFGenerator | AFIGenerator):
        return generator or _below(tensors, "neck.upsample.")
    detector = {
        name: value
        for name, value in tensors.items()
        if not name.startswith(("generator.", "discriminator."))
    }
    inside = {f"neck.upsample.{name}": value for name, value in generator.items()}
    return inside | detector


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def load_tensors(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, parts: Sequence[str], strict: bool
) -> LoadReport:
    """Load tensors that have our names already.

    Args:
        source: what messages call them; the rest is as of `load_weights`.

    Raises:
        InputError: they fit less than half of the (parts of the) module, or with `strict` not in every tensor; or
            weights are whole or not finite numbers.
    """
    inside = tuple(f"{part}." for part in parts)
    given = {name: value for name, value in tensors.items() if not parts or name.startswith(inside)}
    wanted = {
        name: value for name, value in module.state_dict().items() if not parts or name.startswith(inside)
    }
    fitting, report = compare(given, wanted, source)
    needed = sum(not is_derived(name) for name in wanted)
    if 2 * len(fitting) < max(needed, 1) or (strict and not report.complete):
        what = (
            f"'{', '.join(parts)}' of this {type(module).__name__}"
            if parts
            else f"this {type(module).__name__}"
        )
        raise InputError(
            f"{source} does not fit {what} ({len(fitting)} of {needed} tensors). Give the preset that these "
            f"weights belong to.\n{report.summary()}"
        )
    for name, value in fitting.items():
        if problem := _problem(value, wanted[name]):
            raise InputError(f"{source}: {name} {problem}")
    module.load_state_dict(fitting, strict=False)
    return report


def _problem(value: Tensor, wanted: Tensor) -> str | None:
    """Why a tensor cannot stand where a network has `wanted`, of its shape; None where it can."""
    if not wanted.is_floating_point():
        return None
    if not value.is_floating_point():  # rounded, nearly every weight is 0
        return f"holds whole numbers ({value.dtype}), not weights; give a file that is not quantised"
    if not value.float().isfinite().all():
        return "is not all finite numbers, as of a training that diverged; give an earlier checkpoint"
    return None
