"""Region proposal network (Faster R-CNN, section 3.1) on a feature pyramid, with detectron2's numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from srfgan.models.config import AnchorConfig, RPNConfig
from srfgan.models.ops.anchors import AnchorGrids, cell_anchors, flatten_map
from srfgan.models.ops.boxes import Size, clip_boxes, decode_boxes, encode_boxes, is_nonempty, within_sides
from srfgan.models.ops.convolution import Conv2d
from srfgan.models.ops.losses import binary_sum, l1_sum
from srfgan.models.ops.matching import IGNORED, match_boxes, touches
from srfgan.models.ops.nms import nms
from srfgan.models.ops.sampling import sample_candidates
from srfgan.models.ops.suppression import Suppression
from srfgan.models.ops.transfer import to_device
from srfgan.models.structures import Target

_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
_NEGATIVE_BELOW, _POSITIVE_FROM = 0.3, 0.7


class RegionProposals(nn.Module):
    """RPN over a pyramid: proposals for the box head, and its two losses.

    Args:
        channels: width of the pyramid.
        anchors: one size per level, or all of them on a single one; every ratio at every position.
        levels: names of the pyramid's levels, finest first; p2 has stride 4, p3 stride 8 and so on.
        config: how many candidates and proposals are kept, and how anchors are sampled.
        negatives_per_positive: the most sampled anchors without an object for each one with an object; the losses are
            then means over all that were sampled.
    """

    def __init__(
        self,
        channels: int,
        anchors: AnchorConfig,
        levels: Sequence[str],
        config: RPNConfig,
        *,
        negatives_per_positive: int | None = None,
    ) -> None:
        super().__init__()
        self.negatives_per_positive = negatives_per_positive
        self.config = config
        self.levels = tuple(levels)
        sizes = [[size] for size in anchors.sizes] if len(self.levels) > 1 else [anchors.sizes]
        num_anchors = len(anchors.ratios) * len(sizes[0])
        self.conv = Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, num_anchors, 1)
        self.deltas = nn.Conv2d(channels, num_anchors * 4, 1)
        self._grids = AnchorGrids()
        for level, of_level in zip(self.levels, sizes, strict=True):
            cells = torch.cat([cell_anchors(size, anchors.ratios) for size in of_level])  # (A, 4)
            self.register_buffer(f"cell_{level}", cells, persistent=False)
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, pyramid: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits (N, A, H, W) and deltas (N, 4 * A, H, W) of each level."""
        hidden = [torch.relu_(self.conv(pyramid[level])) for level in self.levels]
        return [self.objectness(x) for x in hidden], [self.deltas(x) for x in hidden]

    def propose(
        self,
        pyramid: dict[str, Tensor],
        sizes: Sequence[Size],
        targets: Sequence[Target] | None = None,
        ranges: Tensor | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals of each image and, with `targets`, the losses.

        Args:
            pyramid: its levels, (N, C, H, W) each.
            sizes: height and width of each image before padding; proposals are clipped to it.
            targets: ground truth of each image, or None at test time.
            ranges: (N, 2) smallest and largest side of the boxes that each image is about, or None: of all. Others are
                not proposed, and neither an object nor background where they are (TridentNet paper, section 4.2).

        Returns:
            (R, 4) float32 boxes without gradient, best first, for each image; and `loss_rpn_cls`,
            `loss_rpn_loc`, both sums divided by `samples_per_image` times the number of images, or by the number of
            samples where `negatives_per_positive` says how many these are.
        """
        logits, deltas = self(pyramid)
        anchors = self.anchors(logits)
        flat_logits = [flatten_map(level, 1).squeeze(-1) for level in logits]  # (N, H * W * A) each
        flat_deltas = [flatten_map(level, 4) for level in deltas]  # (N, H * W * A, 4) each
        with torch.no_grad():
            proposals = self._select(flat_logits, flat_deltas, anchors, sizes, ranges)
        if targets is None:
            return proposals, {}
        losses = self._losses(
            torch.cat(flat_logits, 1), torch.cat(flat_deltas, 1), torch.cat(anchors), targets, ranges
        )
        return proposals, losses

    def anchors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Anchors (H * W * A, 4) of each level, for feature maps (..., H, W)."""
        cells = [self.get_buffer(f"cell_{level}") for level in self.levels]
        return self._grids.of(cells, [2 ** int(level[1:]) for level in self.levels], maps)

    def _select(
        self,
        logits: list[Tensor],
        deltas: list[Tensor],
        anchors: list[Tensor],
        sizes: Sequence[Size],
        ranges: Tensor | None,
    ) -> list[Tensor]:
        """Best candidates of each level, decoded, clipped, suppressed within the level; best of all levels."""
        before = self.config.pre_nms_topk_train if self.training else self.config.pre_nms_topk_test
        after = self.config.post_nms_topk_train if self.training else self.config.post_nms_topk_test
        scores, chosen, starts = [], [], []  # of each level: (N, K), (N, K, 4), (N, K, 4)
        for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
            best, index = level_logits.float().topk(min(before, level_logits.shape[1]), dim=1)
            scores.append(best)
            chosen.append(level_deltas.gather(1, index[..., None].expand(-1, -1, 4)))
            starts.append(level_anchors[index])
        boxes = _decoded(chosen, starts)
        if ranges is not None:  # a box of the wrong size becomes an empty one, which is dropped as others are
            boxes = [_clipped(of_level, sizes) for of_level in boxes]
            boxes = [torch.where(within_sides(x, ranges[:, None])[..., None], x, 0) for x in boxes]
        one_by_one = logits[0].device.type in ("cpu", "meta") or torch.compiler.is_exporting()
        suppress = self._suppress_each if one_by_one else self._suppress_together
        return suppress(list(zip(scores, boxes, strict=True)), sizes, after)

    def _suppress_each(
        self, candidates: Sequence[tuple[Tensor, Tensor]], sizes: Sequence[Size], after: int
    ) -> list[Tensor]:
        """The proposals of each image, of candidates suppressed level by level, as a CPU does it best.

        Args:
            candidates: scores (N, K) and boxes (N, K, 4) of each level, best first; K may differ.
            sizes: of the N images.
            after: most proposals of an image.
        """
        proposals = []
        for image, size in enumerate(sizes):
            kept = [self._suppress(scores[image], boxes[image], size) for scores, boxes in candidates]
            scores = torch.cat([level_scores for level_scores, _ in kept])
            order = scores.argsort(descending=True)[:after]
            boxes = torch.cat([level_boxes for _, level_boxes in kept])[order]
            proposals.append(boxes[is_nonempty(boxes)])
        return proposals

    def _suppress_together(
        self, candidates: Sequence[tuple[Tensor, Tensor]], sizes: Sequence[Size], after: int
    ) -> list[Tensor]:
        """As `_suppress_each`, for all images and levels at once: a GPU's host waits once."""
        count = max(scores.shape[1] for scores, _ in candidates)
        lowest = torch.finfo(candidates[0][0].dtype).min
        scores = torch.stack([_filled(level, count, lowest) for level, _ in candidates], dim=1)  # (N, L, K)
        boxes = torch.stack([_filled(level, count, 0) for _, level in candidates], dim=1)  # (N, L, K, 4)
        boxes = _clipped(boxes.flatten(1, 2), sizes).view(boxes.shape)
        suppression = Suppression(boxes.flatten(0, 1), is_nonempty(boxes).flatten(0, 1), self.config.nms_iou)
        settled, kept = 0, [0]
        while not settled:
            unchanged = suppression.advance()
            keep = suppression.keep.view(scores.shape).flatten(1)  # (N, L * K)
            *kept, settled = torch.cat([keep.sum(1), unchanged[None]]).tolist()
        order = torch.where(keep, scores.flatten(1), lowest).topk(min(after, keep.shape[1]), dim=1).indices
        best = boxes.flatten(1, 2).gather(1, order[..., None].expand(-1, -1, 4))  # (N, R, 4)
        return [part[:number] for part, number in zip(best, kept, strict=True)]

    def _suppress(self, scores: Tensor, boxes: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        boxes = clip_boxes(boxes, size)
        # Empty boxes suppress none and stay until all levels are together: finding them is a wait for the GPU.
        scores = torch.where(is_nonempty(boxes), scores, torch.finfo(scores.dtype).min / 2)
        keep = nms(boxes, scores, self.config.nms_iou)
        return scores[keep], boxes[keep]

    def _losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        targets: Sequence[Target],
        ranges: Tensor | None,
    ) -> dict[str, Tensor]:
        loss_cls, loss_loc = [], []
        matches = [
            match_boxes(
                target.boxes,
                anchors,
                negative_below=_NEGATIVE_BELOW,
                positive_from=_POSITIVE_FROM,
                rescue=True,
            )
            for target in targets
        ]
        if ranges is not None:
            for (_, labels), target, sides in zip(matches, targets, ranges, strict=True):
                foreign = target.boxes, ~within_sides(target.boxes, sides)
                labels.masked_fill_(touches(*foreign, anchors, above=_NEGATIVE_BELOW), IGNORED)
        sampled_of = sample_candidates(
            [labels for _, labels in matches],
            self.config.samples_per_image,
            self.config.positive_fraction,
            negatives_per_positive=self.negatives_per_positive,
        )
        for image, (target, (matched, _), (positive, negative)) in enumerate(
            zip(targets, matches, sampled_of, strict=True)
        ):
            sampled = torch.cat([positive, negative])  # (S,)
            is_object = torch.arange(len(sampled), device=sampled.device) < len(positive)
            loss_cls.append(binary_sum(logits[image, sampled], is_object))
            wanted = target.boxes[matched[positive]]  # (F, 4)
            truth = encode_boxes(anchors[positive], wanted, _WEIGHTS)  # (F, 4)
            loss_loc.append(l1_sum(deltas[image, positive], truth))
        normalizer = self.config.samples_per_image * len(targets)
        if self.negatives_per_positive is not None:
            normalizer = max(sum(len(positive) + len(negative) for positive, negative in sampled_of), 1)
        return {
            "loss_rpn_cls": torch.stack(loss_cls).sum() / normalizer,
            "loss_rpn_loc": torch.stack(loss_loc).sum() / normalizer,
        }


def _decoded(deltas: Sequence[Tensor], anchors: Sequence[Tensor]) -> list[Tensor]:
    """Boxes (N, K, 4) of each level, of its deltas (N, K, 4) and anchors (N, K, 4); K may differ."""
    if torch.compiler.is_exporting():  # how many a level has may follow from the image's size
        return [decode_boxes(*level, _WEIGHTS) for level in zip(deltas, anchors, strict=True)]
    boxes = decode_boxes(torch.cat(list(deltas), 1), torch.cat(list(anchors), 1), _WEIGHTS)
    return list(boxes.split([x.shape[1] for x in deltas], dim=1))


def _clipped(boxes: Tensor, sizes: Sequence[Size]) -> Tensor:
    """`boxes` (N, K, 4) within the N images."""
    limits = to_device(torch.tensor([(w, h, w, h) for h, w in sizes]).to(boxes.dtype), boxes.device)  # (N, 4)
    return torch.minimum(boxes.clamp(min=0), limits[:, None])


def _filled(level: Tensor, count: int, value: float) -> Tensor:
    """`level` (N, K, ...) with rows of `value` after its own, (N, `count`, ...)."""
    if level.shape[1] == count:
        return level
    shape = (level.shape[0], count - level.shape[1], *level.shape[2:])
    return torch.cat([level, level.new_full(shape, value)], dim=1)
