"""Loading weights into a detector, a generator or a discriminator, with a report of what fitted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from models.backbones import resnest, resnet, swin, vovnet
from models.detector import Detector
from models.discriminator import Discriminator
from models.errors import InputError, kind_of
from models.upsamplers import AFIGenerator, SRFGenerator
from models.weights.files import Checkpoint, read_checkpoint
from models.weights.names import all_to_ours, is_derived

_TIMM_NAMES = resnet.TIMM_NAMES | resnest.TIMM_NAMES | vovnet.TIMM_NAMES | swin.TIMM_NAMES
_SHOWN = 8
"""How many names a summary lists of each kind."""


@dataclass(frozen=True)
class LoadReport:
    """What became of a file's tensors. All lists hold our names.

    Attributes:
        source: the file.
        loaded: how many tensors were loaded.
        missing: in the model, not in the file; they keep their values.
        unexpected: in the file, not in the model; they are not used.
        mismatched: in both, with different shapes; the model's keep their values.
        shapes: shapes (file's, model's) of the mismatched ones.
    """

    source: str
    loaded: int
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def complete(self) -> bool:
        """Whether file and model agree in every tensor."""
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self) -> str:
        """A few lines for a person."""
        lines = [f"{self.source}: {self.loaded} tensors loaded"]
        shapes = {
            name: f"{name} {list(file)} -> {list(model)}" for name, (file, model) in self.shapes.items()
        }
        for title, names in (
            ("not in the file, left as they were", self.missing),
            ("in the file, not in this model", self.unexpected),
            ("of another shape (file -> model), left as they were", self.mismatched),
        ):
            if names:
                shown = [shapes.get(name, name) for name in names[:_SHOWN]]
                more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                lines.append(f"  {len(names)} {title}: {', '.join(shown)}{more}")
        return "\n".join(lines)


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
            the (parts of the) module, or with `strict` if anything does not fit. The module is then unchanged.
    """
    _check_arguments(module, source, parts)
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    report = _load(module, _relevant(module, checkpoint.tensors), str(checkpoint.path), parts, strict)
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


def load_imagenet(model: Detector, folder: Path) -> LoadReport:
    """Load timm's ImageNet weights into the backbone of `model`, downloaded if `folder` does not hold them.

    Raises:
        InputError: if there are none, or they cannot be had; names the file to put into `folder`.
    """
    backbone = model.config.backbone.name
    name = _TIMM_NAMES[backbone]
    if backbone in resnet.TIMM_CHANGES or not timm.is_model_pretrained(name):
        raise InputError(
            f"there are no ImageNet weights of the backbone {backbone} in timm; use initial_weights=none, or give "
            "a file that holds them with --weights"
        )
    file = folder / f"{name}.safetensors"
    try:
        source = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"file": str(file)} if file.is_file() else None
        )
    except Exception as error:
        if file.is_file():
            raise InputError(f"{file} does not hold timm's weights of {name}: {error}") from error
        hub = getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None)
        raise InputError(
            f"the ImageNet weights of {name} cannot be downloaded ({error}). Put "
            f"https://huggingface.co/{hub}/resolve/main/model.safetensors to {file}, or use initial_weights=none"
        ) from error
    found = source.state_dict()
    tensors = {ours: found[key] for key, ours in all_to_ours(found).items()}
    return _load(model, tensors, f"timm's {name}", ("backbone",), strict=False)


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


def _load(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, parts: Sequence[str], strict: bool
) -> LoadReport:
    inside = tuple(f"{part}." for part in parts)
    given = {name: value for name, value in tensors.items() if not parts or name.startswith(inside)}
    wanted = {
        name: value for name, value in module.state_dict().items() if not parts or name.startswith(inside)
    }
    fitting = {n: v for n, v in given.items() if n in wanted and v.shape == wanted[n].shape}
    mismatched = sorted(name for name in given if name in wanted and name not in fitting)
    report = LoadReport(
        source=source,
        loaded=len(fitting),
        missing=sorted(n for n in wanted if n not in given and not is_derived(n)),
        unexpected=sorted(n for n in given if n not in wanted and not is_derived(n)),
        mismatched=mismatched,
        shapes={name: (tuple(given[name].shape), tuple(wanted[name].shape)) for name in mismatched},
    )
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
    module.load_state_dict(fitting, strict=False)
    return report
