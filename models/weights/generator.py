"""Which generator a weight file holds, told from its tensors, and that generator itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from srfgan.models.config import GeneratorConfig
from srfgan.models.errors import InputError
from srfgan.models.factory import build_generator
from srfgan.models.upsamplers import SIZED
from srfgan.models.weights.files import read_checkpoint
from srfgan.models.weights.load import load_weights

_BODIES = {"blocks.0.conv1.weight": "srf", "blocks.0.convs.0.weight": "afi"}
"""What only one of the bodies has."""
_NEEDED = ("head.weight", "tail.weight")
_WIDEST, _MOST = 8192, 64
"""What `GeneratorConfig` takes; more is in damaged files only."""


@dataclass(frozen=True)
class Shape:
    """What tells generators apart whose weights do not fit each other.

    Attributes:
        body: one of `srfgan.models.upsamplers.GENERATORS`.
        channels: of the maps.
        width: inside, of a thin one; None: the maps' channels.
        blocks: how many.
    """

    body: str
    channels: int
    width: int | None
    blocks: int

    def __str__(self) -> str:
        inside = "" if self.width is None else f" and {self.width} inside"
        return f"{self.body!r} of {self.channels} channels{inside}, {self.blocks} blocks"

    @property
    def settings(self) -> str:
        """The options that give a preset such a generator."""
        size = "null" if self.width is None else f"{{width: {self.width}, blocks: {self.blocks}}}"
        return f"--set model.neck.upsampler={self.body} --set 'model.neck.generator={size}'"


def shape_of(tensors: Mapping[str, Tensor]) -> Shape | None:
    """The generator among a detector's or a file's tensors, by our names; None where there is none."""
    for prefix in ("generator.", "neck.upsample."):
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        body = next((body for name, body in _BODIES.items() if name in own), None)
        if body is None or any(name not in own or own[name].dim() != 4 for name in _NEEDED):
            continue
        blocks = {found[1] for name in own if (found := re.match(r"blocks\.(\d+)\.", name))}
        width = len(own["head.weight"]) if "down.weight" in own else None
        if len(blocks) <= _MOST and (width is None or 0 < width <= _WIDEST):
            return Shape(body, len(own["tail.weight"]), width, len(blocks))
    return None


def load_generator(path: Path, channels: int) -> tuple[str, nn.Module]:
    """The generator of a stage-1 result, or the one inside a detector's file, whichever body and size it has.

    Args:
        path: our checkpoint, or the authors'.
        channels: of the maps that it is for.

    Returns:
        Its body, one of `srfgan.models.upsamplers.GENERATORS`, and itself.

    Raises:
        InputError: the file cannot be read, or holds no generator for maps of so many channels.
    """
    checkpoint = read_checkpoint(path)
    shape = shape_of(checkpoint.tensors)
    if shape is None:
        raise InputError(f"{path} holds no generator: give a stage-1 result, or a detector with a generator.")
    if shape.channels != channels:
        raise InputError(f"{path} holds the generator {shape}; these maps have {channels} channels.")
    generator = build_generator(shape.body, channels, _size(shape))
    load_weights(generator, checkpoint, strict=True)
    return shape.body, generator


def _size(shape: Shape) -> GeneratorConfig | None:
    return GeneratorConfig(width=shape.width, blocks=shape.blocks) if shape.body == SIZED else None
