"""The moving average of a training curve."""

from __future__ import annotations

import numpy as np

_SMOOTHING = 1 / 12
"""Share of a curve that its moving average spans."""


def moving_average(values: np.ndarray) -> np.ndarray:
    """Centred mean over a share of the curve, over fewer points at its ends; (L,) to (L,)."""
    reach = max(1, round(len(values) * _SMOOTHING / 2))
    padded = np.concatenate([[0.0], np.cumsum(values)])
    positions = np.arange(len(values))
    first, last = np.maximum(positions - reach, 0), np.minimum(positions + reach + 1, len(values))
    averages: np.ndarray = (padded[last] - padded[first]) / (last - first)
    return averages
