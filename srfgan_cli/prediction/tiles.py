"""Large images in parts: where the parts lie, and how what was found in several of them becomes one object.

Two parts see the same object if, in the area that both see, their boxes of one class are the same. What a part's border
has cut is then joined: by the other part's whole box where there is one, else by the union of boxes and masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.ops import box_iou

from srfgan.models.ops.nms import nms_within_classes
from srfgan_cli.data.rle import encode_mask, with_bytes
from srfgan_cli.prediction.found import Prediction

_SAME = 0.5
"""IoU, within the area that two tiles share, of boxes that are one object's."""
_INSIDE = 0.7
"""Share of a cut box that lies in a larger one of its class, from which on it is a part of that."""
_AT_BORDER = 0.01
"""How near a tile's border a box ends that it has cut, as a share of the tile; detectors miss it by a little."""


@dataclass(frozen=True)
class Tile:
    """A part of an image: columns `left` to `right`, rows `top` to `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> Tensor:
        """(4,) xyxy."""
        return torch.tensor([self.left, self.top, self.right, self.bottom])

    def of(self, image: Tensor) -> Tensor:
        """Its pixels of an image (3, H, W)."""
        return image[:, self.top : self.bottom, self.left : self.right]

    def shared(self, other: Tile) -> Tensor | None:
        """The area that both see, (4,) xyxy; None where there is none."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return torch.tensor([left, top, right, bottom]) if left < right and top < bottom else None


def cut(size: tuple[int, int], side: int, overlap: float) -> list[Tile]:
    """Square tiles that cover an image, as evenly as they can, row by row.

    Args:
        size: height and width of the image.
        side: of a tile, in pixels; a smaller side of the image is its tiles' too.
        overlap: share of a tile that its neighbours see too, at least.
    """
    rows, columns = (_starts(length, side, overlap) for length in size)
    height, width = (min(side, length) for length in size)
    return [Tile(x, y, x + width, y + height) for y, x in product(rows, columns)]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    if length <= side:
        return [0]
    step = max(1.0, side * (1 - overlap))
    count = int(np.ceil((length - side) / step - 1e-9)) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def joined(found: Sequence[tuple[Tile, Prediction]], size: tuple[int, int], nms_iou: float) -> Prediction:
    """What was found in an image's tiles, as one prediction of the whole image.

    Args:
        found: the tiles, and what was found in each, in its own pixels.
        size: height and width of the image.
        nms_iou: boxes of one class that overlap more are one object.
    """
    if len(found) == 1:
        return found[0][1]
    pieces = _Pieces.of(found, size)
    groups = pieces.groups()
    boxes = torch.stack([pieces.box(group) for group in groups]) if groups else torch.zeros(0, 4)
    best = torch.tensor([group[0] for group in groups], dtype=torch.int64)
    scores, labels = pieces.scores[best], pieces.labels[best]
    kept = nms_within_classes(boxes, scores, labels, nms_iou).tolist()
    first = found[0][1]
    ranks = pieces.mask_scores
    codes = None if first.segmentations is None else [pieces.mask(groups[at], size) for at in kept]
    return Prediction(
        boxes[kept],
        scores[kept],
        labels[kept],
        size,
        first.categories,
        None if ranks is None else ranks[best[kept]],
        codes,
    )


@dataclass(frozen=True)
class _Pieces:
    """All tiles' detections together, boxes in the image's pixels.

    Attributes:
        size: height and width of the image.
        boxes: (P, 4); scores and labels (P,).
        owner: (P,) which tile saw it.
        is_cut: (P,) whether it ends at a border of its tile that is none of the image's.
    """

    tiles: list[Tile]
    size: tuple[int, int]
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_scores: Tensor | None
    owner: Tensor
    is_cut: Tensor
    codes: list[dict[str, Any]]

    @classmethod
    def of(cls, found: Sequence[tuple[Tile, Prediction]], size: tuple[int, int]) -> _Pieces:
        boxes, is_cut = [], []
        for tile, seen in found:
            moved = seen.boxes + seen.boxes.new_tensor([tile.left, tile.top]).repeat(2)
            boxes.append(moved)
            is_cut.append(_is_cut(moved, tile, size))
        ranks = [seen.mask_scores for _, seen in found]
        counts = torch.tensor([len(seen) for _, seen in found])
        return cls(
            tiles=[tile for tile, _ in found],
            size=size,
            boxes=torch.cat(boxes),
            scores=torch.cat([seen.scores for _, seen in found]),
            labels=torch.cat([seen.labels for _, seen in found]),
            mask_scores=torch.cat([rank for rank in ranks if rank is not None])
            if None not in ranks
            else None,
            owner=torch.arange(len(found)).repeat_interleave(counts),
            is_cut=torch.cat(is_cut),
            codes=[code for _, seen in found for code in seen.segmentations or []],
        )

    def groups(self) -> list[list[int]]:
        """Pieces of one object each, that with the best score first; a whole one alone, if there is one."""
        parents = list(range(len(self.boxes)))
        for first, second in self._pairs():
            parents[_root(parents, first)] = _root(parents, second)
        members: dict[int, list[int]] = {}
        for piece in self.scores.argsort(descending=True, stable=True).tolist():
            members.setdefault(_root(parents, piece), []).append(piece)
        whole = [[piece for piece in group if not self.is_cut[piece]][:1] for group in members.values()]
        groups = [one or group for one, group in zip(whole, members.values(), strict=True)]
        return [group for group in self._with_parts(groups) if not self._refuted(group)]

    def _pairs(self) -> list[tuple[int, int]]:
        """Pieces of two tiles that are the same where both tiles see them, each the other's best."""
        pairs: list[tuple[int, int]] = []
        of_tile = [torch.nonzero(self.owner == tile).flatten() for tile in range(len(self.tiles))]
        for (a, first), (b, second) in combinations(enumerate(self.tiles), 2):
            area = first.shared(second)
            if area is None or not len(of_tile[a]) or not len(of_tile[b]):
                continue
            ours, theirs = (_within(self.boxes[of_tile[tile]], area) for tile in (a, b))
            iou = box_iou(ours, theirs).nan_to_num()  # (A, B)
            iou[self.labels[of_tile[a]][:, None] != self.labels[of_tile[b]]] = 0
            best, partner = iou.max(dim=1)
            mutual = iou.argmax(dim=0)[partner] == torch.arange(len(iou))
            rows = torch.nonzero(mutual & (best >= _SAME)).flatten()
            pairs += zip(of_tile[a][rows].tolist(), of_tile[b][partner[rows]].tolist(), strict=True)
        return pairs

    def _with_parts(self, groups: list[list[int]]) -> list[list[int]]:
        """Groups of cut pieces that lie in a larger one's box, of their class and another tile, become parts of it."""
        boxes = torch.stack([self.box(group) for group in groups]) if groups else torch.zeros(0, 4)
        labels = self.labels[torch.tensor([group[0] for group in groups], dtype=torch.int64)]
        areas = _area(boxes)
        kept = dict(enumerate(groups))
        for at in areas.argsort(stable=True).tolist():
            own = kept[at]
            if not self.is_cut[own[0]]:
                continue
            common = _area(_within(boxes, boxes[at]))
            fits = (common >= _INSIDE * areas[at]) & (labels == labels[at]) & (areas > areas[at])
            tiles = {int(self.owner[piece]) for piece in own}
            for into in torch.nonzero(fits).flatten().tolist():
                if into in kept and tiles.isdisjoint(int(self.owner[piece]) for piece in kept[into]):
                    del kept[at]
                    if self.is_cut[kept[into][0]]:
                        kept[into] = sorted([*kept[into], *own], key=lambda piece: -float(self.scores[piece]))
                    break
        return [*kept.values()]

    def _refuted(self, group: list[int]) -> bool:
        """Whether a piece at its tile's border is none in another tile, which sees all of its box away from borders."""
        if len(group) > 1 or not self.is_cut[group[0]]:
            return False
        box = self.boxes[group]
        return any(
            bool((_within(box, tile.area) == box).all()) and not _is_cut(box, tile, self.size)
            for number, tile in enumerate(self.tiles)
            if number != int(self.owner[group[0]])
        )

    def box(self, group: Sequence[int]) -> Tensor:
        """(4,) around all pieces of a group."""
        boxes = self.boxes[list(group)]
        return torch.cat([boxes[:, :2].amin(dim=0), boxes[:, 2:].amax(dim=0)])

    def mask(self, group: Sequence[int], size: tuple[int, int]) -> dict[str, Any]:
        """The RLE, in the whole image, of all masks of a group together."""
        tiles = [self.tiles[int(self.owner[piece])] for piece in group]
        left, top = min(tile.left for tile in tiles), min(tile.top for tile in tiles)
        right, bottom = max(tile.right for tile in tiles), max(tile.bottom for tile in tiles)
        window = np.zeros((bottom - top, right - left), bool)
        for piece, tile in zip(group, tiles, strict=True):
            pixels = coco_mask.decode(with_bytes(self.codes[piece]))
            part = window[tile.top - top : tile.bottom - top, tile.left - left : tile.right - left]
            part |= pixels.astype(bool)
        return encode_mask(window, (left, top), size)


def _is_cut(boxes: Tensor, tile: Tile, size: tuple[int, int]) -> Tensor:
    """(R,) whether boxes of the image's pixels end at a border of `tile` inside the image."""
    height, width = size
    margin = max(1.0, _AT_BORDER * max(tile.right - tile.left, tile.bottom - tile.top))
    x0, y0, x1, y1 = boxes.unbind(1)
    return (
        ((x0 < tile.left + margin) & (tile.left > 0))
        | ((y0 < tile.top + margin) & (tile.top > 0))
        | ((x1 > tile.right - margin) & (tile.right < width))
        | ((y1 > tile.bottom - margin) & (tile.bottom < height))
    )


def _within(boxes: Tensor, area: Tensor) -> Tensor:
    """Boxes (R, 4), cut to an area (4,); those outside it are empty."""
    low, high = area[:2].repeat(2), area[2:].repeat(2)
    return boxes.clamp(min=low, max=high)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def _root(parents: list[int], piece: int) -> int:
    while parents[piece] != piece:
        parents[piece] = parents[parents[piece]]
        piece = parents[piece]
    return piece
