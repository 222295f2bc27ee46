"""Non-maximum suppression of many groups of boxes at once, for a GPU whose host must not wait for each.

torchvision's kernel goes through the boxes one by one, in one block of threads, and its host waits for how many were
kept: on an H100 7 ms for an image's 9,000 proposals, a third of a training step. Greedy suppression is also the only
solution of "a box stays if none that stays, and comes before it, overlaps it". Starting from all boxes, one round of
that rule settles every box whose longest chain of overlaps is as long as there were rounds; real proposals take about
ten.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 16
"""Before the host looks whether anything still changes."""
_PAIRS_AT_ONCE = 2**23


class Suppression:
    """Greedy suppression within each of G groups of N boxes, best first.

    Attributes:
        keep: (G, N) bool, the boxes that stay; final once `advance` has said so.

    Args:
        boxes: (G, N, 4) xyxy.
        valid: (G, N) bool; the others neither stay nor suppress.
        iou: overlaps above it suppress.
    """

    def __init__(self, boxes: Tensor, valid: Tensor, iou: float) -> None:
        self._valid = valid
        self._overlaps = _overlaps(boxes, iou)
        self.keep = valid

    def advance(self, rounds: int = ROUNDS) -> Tensor:
        """That many rounds; whether the last one changed nothing, a bool of no dimension that nobody waited for."""
        before = self.keep
        # Sums of ones and zeros: only whether they are positive matters, so half the precision is enough.
        with torch.autocast(self.keep.device.type, enabled=False):
            for _ in range(rounds):
                before = self.keep
                suppressed = torch.bmm(before[:, None].to(self._overlaps.dtype), self._overlaps)[:, 0] > 0
                self.keep = self._valid & ~suppressed
        return (before == self.keep).all()


def _overlaps(boxes: Tensor, iou: float) -> Tensor:
    """(G, N, N) ones where the second box comes after the first and overlaps it by more than `iou`, else zeros."""
    groups, count = boxes.shape[:2]
    dtype = torch.float32 if boxes.device.type == "cpu" else torch.float16
    at_once = max(1, _PAIRS_AT_ONCE // max(1, count**2))
    parts = [_iou_above(part, iou).triu_(1).to(dtype) for part in boxes.split(at_once)]
    return torch.cat(parts) if parts else boxes.new_zeros((groups, count, count), dtype=dtype)


def _iou_above(boxes: Tensor, iou: float) -> Tensor:
    """(G, N, N) bool. In place where it can be: the pairs of 2,000 boxes are 16 MB of float32."""
    x0, y0, x1, y1 = boxes.unbind(-1)  # (G, N) each
    shared = torch.minimum(x1[:, :, None], x1[:, None]).sub_(torch.maximum(x0[:, :, None], x0[:, None]))
    height = torch.minimum(y1[:, :, None], y1[:, None]).sub_(torch.maximum(y0[:, :, None], y0[:, None]))
    shared.clamp_(min=0).mul_(height.clamp_(min=0))
    area = (x1 - x0) * (y1 - y0)  # (G, N)
    union = (area[:, :, None] + area[:, None]).sub_(shared)  # (G, N, N)
    return shared.div_(union) > iou
