"""`--compile`: the networks of a stage by torch.compile, heads and losses as they are."""

from __future__ import annotations

import torch
import torch._functorch.config
from torch import nn

from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan_cli.machine.files import first_line
from srfgan_cli.training.stage import Stage


def compile_networks(stage: Stage, device: torch.device) -> None:
    """Compile what runs over whole images in place: parameters, names and checkpoints stay what they are.

    Heads choose boxes by values and would be compiled in many small pieces. Images of a second size make
    torch compile once more, then for any size.

    Raises:
        InputError: torch has no compiler for this device here.
    """
    _require_compiler(device)
    # The discriminator's graph is gone through for the generator's step and again for its own.
    torch._functorch.config.donated_buffer = False
    frozen = (getattr(stage, name, None) for name in ("guide", "teacher"))
    for module in (*stage.modules.values(), *(module for module in frozen if module is not None)):
        for network in _networks(module):
            network.compile()


def _networks(module: nn.Module) -> list[nn.Module]:
    return [module.backbone, module.neck] if isinstance(module, Detector) else [module]


def _require_compiler(device: torch.device) -> None:
    try:
        torch.compile(_probe)(torch.ones(8, device=device))
    except Exception as error:
        needed = "a C++ compiler (g++ or clang++)" if device.type == "cpu" else "triton and a C compiler"
        raise InputError(
            f"--compile: torch cannot compile for {device.type} here ({first_line(error)}). It needs {needed}; "
            "install it, or leave --compile out."
        ) from None


def _probe(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1
