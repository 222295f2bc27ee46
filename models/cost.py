"""What a detector costs, in numbers. Imports no torch; `count.cost_of` counts it."""

from __future__ import annotations

from dataclasses import dataclass

HEIGHT, WIDTH = 800, 1216
"""The image that the tables' costs are stated for: a typical one of COCO at short side 800, a multiple of 32."""


@dataclass(frozen=True)
class Cost:
    """Size of a detector, and the arithmetic of detecting in one image.

    Attributes:
        parameters: how many, frozen ones included.
        backbone, neck, head: multiply-accumulates of each part.
    """

    parameters: int
    backbone: int
    neck: int
    head: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole detector."""
        return self.backbone + self.neck + self.head
