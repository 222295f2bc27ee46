"""What may look on while a run trains, as its page does; called by the main process alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from PIL import Image

from srfgan.models.detector import Detector
from srfgan_cli.data.dataset import DetectionDataset

Pictures = Mapping[str, Image.Image]
"""By the names that TensorBoard shows them under."""


class Watch(Protocol):
    """Looks on, and changes nothing: neither the networks nor any random state."""

    def begin(self, train: DetectionDataset, val: DetectionDataset | None) -> Pictures:
        """The run begins, or goes on, with these splits; stage 1 scores nothing and has no second."""

    def scored(self, iteration: int, detector: Detector) -> Pictures:
        """The detector, in evaluation mode, has just been scored at an iteration."""

    def refresh(self) -> None:
        """There is more in the log."""


class Nobody:
    """Looks on at nothing."""

    def begin(self, train: DetectionDataset, val: DetectionDataset | None) -> Pictures:
        """No pictures."""
        return {}

    def scored(self, iteration: int, detector: Detector) -> Pictures:
        """No pictures."""
        return {}

    def refresh(self) -> None:
        """Nothing."""
