"""Repeat-factor sampling: images with rare classes come again within an epoch (LVIS, Gupta et al. 2019, section 4)."""

from __future__ import annotations

import numpy as np

from srfgan_cli.data.dataset import DetectionDataset


def repeat_factors(dataset: DetectionDataset, threshold: float) -> np.ndarray:
    """How often each image comes in an epoch, (N,) float64 from 1 on.

    A class in a share f of the images has the factor max(1, sqrt(threshold / f)), and an image the largest of its
    classes; one without objects 1.

    Args:
        threshold: 0..1.
    """
    positions, labels = (found.numpy() for found in dataset.occurrences())
    pairs = np.unique(np.stack([positions, labels]), axis=1)  # each class once an image
    images = np.bincount(pairs[1], minlength=len(dataset.categories))
    of_class = np.sqrt(np.maximum(1, threshold * len(dataset) / np.maximum(images, 1)))
    factors = np.ones(len(dataset))
    np.maximum.at(factors, pairs[0], of_class[pairs[1]])
    return factors


def told(factors: np.ndarray, threshold: float) -> str:
    """One sentence of what they, of this threshold, do to an epoch."""
    return (
        f"Repeat factors (data.repeat_threshold {threshold:g}): {int((factors > 1).sum())} of {len(factors)} images "
        f"come again, up to {factors.max():.2f} times; an epoch is {factors.sum():.0f} images on average, "
        f"{factors.mean():.2f} times as long."
    )
