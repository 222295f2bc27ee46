"""FCOS's head (FCOS paper, section 3, with centre sampling, GIoU and centre-ness on the box tower)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from srfgan.models.config import FCOSHeadConfig, InferenceConfig
from srfgan.models.heads.dense import (
    LEVELS,
    STRIDES,
    best_pairs,
    class_conv,
    clipped_detections,
    dense_conv,
    focal_losses,
    joined_maps,
    select_dense_detections,
)
from srfgan.models.ops.anchors import flatten_map
from srfgan.models.ops.boxes import Size
from srfgan.models.ops.distributed import mean_over_processes
from srfgan.models.ops.fcos_targets import centerness, fcos_locations, fcos_targets
from srfgan.models.ops.losses import binary_losses
from srfgan.models.structures import Detections, Target

_GROUPS = 32


@dataclass
class FCOSMaps:
    """What the towers predict, one map per level of p3..p7.

    Attributes:
        logits: (N, K, H, W) of the classes.
        sides: (N, 4, H, W) distances to left, top, right, bottom, not negative, in units of the stride; of ATSS the
            deltas of a box.
        centerness: (N, 1, H, W) logits.
    """

    logits: list[Tensor]
    sides: list[Tensor]
    centerness: list[Tensor]


class FCOSTowers(nn.Module):
    """Two towers of convolutions with GroupNorm, shared by all levels, and a scale for each level.

    Args:
        channels: width of the pyramid.
        num_classes: without background, which has no logit.
        num_convs: depth of each tower.
        distances: what tells a box is not negative.
    """

    def __init__(self, channels: int, num_classes: int, num_convs: int, *, distances: bool = True) -> None:
        super().__init__()
        self.distances = distances
        self.class_tower = _tower(channels, num_convs)
        self.box_tower = _tower(channels, num_convs)
        self.classes = class_conv(channels, num_classes)
        self.sides = dense_conv(channels, 4)
        self.centerness = dense_conv(channels, 1)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in LEVELS)

    def forward(self, pyramid: dict[str, Tensor]) -> FCOSMaps:
        """Maps of each of p3..p7."""
        maps = FCOSMaps([], [], [])
        for level, scale in zip(LEVELS, self.scales, strict=True):
            box_features = self.box_tower(pyramid[level])
            maps.logits.append(self.classes(self.class_tower(pyramid[level])))
            sides = scale * self.sides(box_features)
            maps.sides.append(torch.relu(sides) if self.distances else sides)
            maps.centerness.append(self.centerness(box_features))
        return maps


class FCOSHead(nn.Module):
    """FCOS over p3..p7.

    Args:
        channels: width of the pyramid.
        num_classes: without background.
        config: depth, sizes of interest and number of candidates.
        inference: what becomes a detection; its threshold looks at the class score alone.
    """

    class_weights: Tensor | None
    """(num_classes + 1,) factors on the classification loss, by true class; None: 1 for all."""

    def __init__(
        self, channels: int, num_classes: int, config: FCOSHeadConfig, inference: InferenceConfig
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.config = config
        self.inference = inference
        self.fcos = FCOSTowers(channels, num_classes, config.num_convs)
        self.register_buffer("class_weights", None, persistent=False)

    def losses(
        self, pyramid: dict[str, Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """As `losses_of`, of the pyramid's maps."""
        return self.losses_of(self.fcos(pyramid), targets)

    def losses_of(self, maps: FCOSMaps, targets: Sequence[Target]) -> dict[str, Tensor]:
        """`loss_fcos_cls`, `loss_fcos_loc` and `loss_fcos_ctr`; 0 for the last two without any box."""
        locations = fcos_locations(maps.logits)
        labels, wanted = fcos_targets(locations, targets, self.config.sizes_of_interest, self.num_classes)
        logits = joined_maps(maps.logits, self.num_classes)  # (N, P, K)
        positive = labels != self.num_classes  # (N, P)
        # All places, most of them for nothing: a GPU's host would wait for the number of positive ones.
        # Those get a box that is right, so that their losses are numbers that can be left out.
        sides, wanted = (
            torch.where(positive[..., None], x, 1.0) for x in (joined_maps(maps.sides, 4).float(), wanted)
        )  # (N, P, 4) each
        quality = torch.where(positive, centerness(wanted), 0.0)  # (N, P)
        count = mean_over_processes(positive.sum().float()).clamp(min=1)
        weight = mean_over_processes(quality.sum()).clamp(min=1e-6)
        errors = binary_losses(joined_maps(maps.centerness, 1).squeeze(-1), quality)  # (N, P)
        return {
            "loss_fcos_cls": focal_losses(logits, labels, self.class_weights).sum() / count,
            "loss_fcos_loc": (quality * giou_losses(sides, wanted)).sum() / weight,
            "loss_fcos_ctr": torch.where(positive, errors, 0.0).sum() / count,
        }

    def detect(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first."""
        found = self.boxes(self.fcos(pyramid), self.inference)
        return [clipped_detections(part, size) for part, size in zip(found, sizes, strict=True)]

    def boxes(self, maps: FCOSMaps, config: InferenceConfig) -> list[Detections]:
        """As `detect`, by `config`; boxes are not clipped to the image."""
        locations = fcos_locations(maps.logits)
        scores = [flatten_map(x, self.num_classes).float().sigmoid() for x in maps.logits]
        quality = [flatten_map(x, 1).float().sigmoid() for x in maps.centerness]
        sides = [flatten_map(x, 4).float() for x in maps.sides]
        found = []
        for image in range(len(scores[0])):
            levels = [
                self._candidates(s[image], q[image], d[image] * stride, places, config.score_threshold)
                for s, q, d, stride, (places, _) in zip(
                    scores, quality, sides, STRIDES, locations, strict=True
                )
            ]
            boxes, best, labels = (torch.cat(parts) for parts in zip(*levels, strict=True))
            found.append(select_dense_detections(boxes, best, labels, config))
        return found

    def _candidates(
        self, scores: Tensor, quality: Tensor, sides: Tensor, places: Tensor, threshold: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (R, 4), scores (R,) and labels (R,) of one level of one image.

        Args:
            scores: (P, K) of the classes.
            quality: (P, 1) centre-ness; pairs are ranked by its product with the class score.
            sides: (P, 4) in pixels.
            places: (P, 2) x, y.
            threshold: of the class score alone.
        """
        passing = scores > threshold
        place, labels, best = best_pairs(scores * quality, passing, self.config.pre_nms_topk)
        corner, reach = places[place], sides[place]  # (R, 2), (R, 4)
        return torch.cat([corner - reach[:, :2], corner + reach[:, 2:]], dim=1), best.sqrt(), labels


def giou_losses(sides: Tensor, wanted: Tensor) -> Tensor:
    """1 - GIoU (R,) of boxes around the same places, given by their four sides (R, 4), float32.

    Intersection and union count one unit more in the IoU, so that predicted boxes of no size are no
    division by zero (FCOS's published definition).
    """
    area, wanted_area = _area(sides), _area(wanted)
    intersection = _area(torch.minimum(sides, wanted))
    hull = _area(torch.maximum(sides, wanted))
    union = area + wanted_area - intersection
    iou = (intersection + 1) / (union + 1)
    return 1 - (iou - (hull - union) / hull)


def _area(sides: Tensor) -> Tensor:
    left, top, right, bottom = sides.unbind(-1)
    return (left + right) * (top + bottom)


def _tower(channels: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [dense_conv(channels, channels), nn.GroupNorm(_GROUPS, channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
