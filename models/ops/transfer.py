"""What host and device tell each other, in as few waits as possible.

The host of a GPU runs ahead of it; whatever it needs to know, as how many boxes passed a test, makes it wait for
all that it has asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def rows_where(masks: Sequence[Tensor]) -> list[Tensor]:
    """The indices (K,) int64 of each mask's true rows, ascending; one wait for all of the masks.

    Args:
        masks: (R,) bool each, on one device, of lengths that may differ.
    """
    if torch.compiler.is_exporting() or any(mask.is_meta for mask in masks):
        return [torch.nonzero(mask).flatten() for mask in masks]
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    return [
        torch.nonzero_static(mask, size=count).flatten() for mask, count in zip(masks, counts, strict=True)
    ]


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`; no wait, as a copy from the host to a GPU starts from page-locked memory."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
