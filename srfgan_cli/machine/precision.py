"""What a precision's name means to torch: autocast, and how a GPU multiplies float32 numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from srfgan_cli.machine.meta_autocast import MetaAutocast
from srfgan_cli.presets.config import Precision

AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The context in which networks compute in `precision`; for fp32 and tf32 one that changes nothing."""
    dtype = AUTOCAST_DTYPE.get(precision)
    if device.type == "meta":
        return nullcontext() if dtype is None else MetaAutocast(dtype)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def cpu_has_bfloat16() -> bool:
    """Whether oneDNN has instructions for bfloat16 here (AVX-512 or better): without, what it emulates takes 9 times
    (3x3 convolutions) to 30 times (depthwise ones) float32's time. True where torch cannot tell, as without oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """Decides how a GPU multiplies float32 numbers, and restores what was set before.

    fp32 multiplies them as they are. Every other precision lets convolutions and matrix products round their factors
    to TF32 (10 bits of mantissa, as fp16's): torch's own default does so for convolutions alone. Nothing on a CPU.
    """
    # Not by the newer `fp32_precision` of cuDNN's convolutions: with that, torch refuses to read `allow_tf32`.
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = precision != "fp32"
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
