"""The annotations of a COCO json as columns, of those that are as they should be in a fraction of the usual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from srfgan_cli.data.segmentations import Segmentations, flatten, joined

_Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


@dataclass(frozen=True)
class Annotations:
    """What A annotations say, unchecked.

    Attributes:
        annotation_ids: (A,) int64.
        annotation_images: (A,) int64 image ids.
        annotation_categories: (A,) int64 category ids.
        boxes: (A, 4) float64 x, y, width, height in pixels; NaN where the json has no four numbers.
        areas: (A,) float64 pixels; NaN where the json has no finite number.
        area_stated: (A,) bool, the json has an `area`, whatever it is.
        crowd: (A,) bool, `iscrowd` is a number but 0, or the text of one ("1", "true").
        odd_crowd: (A,) bool, `iscrowd` is there and neither 0 nor 1.
        segmentations: the outlines and masks.
    """

    annotation_ids: np.ndarray
    annotation_images: np.ndarray
    annotation_categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    area_stated: np.ndarray
    crowd: np.ndarray
    odd_crowd: np.ndarray
    segmentations: Segmentations


class _Sound(msgspec.Struct, gc=False):
    """An annotation without anything odd, as nearly all are."""

    id: _Id
    image_id: _Id
    category_id: _Id
    bbox: tuple[float, float, float, float]
    area: float
    segmentation: list[list[float]] | dict[str, Any] | None = None
    iscrowd: Literal[0, 1] = 0


_SOUND = msgspec.json.Decoder(list[_Sound])


def sound_columns(text: bytes) -> Annotations:
    """The columns of a json list of annotations that have nothing odd.

    Raises:
        msgspec.ValidationError: one has; what is wrong is for others to find.
    """
    records = _SOUND.decode(text)
    count = len(records)
    segmentations = [record.segmentation for record in records]
    parts = [value if isinstance(value, list) else [] for value in segmentations]
    coordinates = np.fromiter(chain.from_iterable(chain.from_iterable(parts)), np.float64)
    return Annotations(
        annotation_ids=np.fromiter((record.id for record in records), np.int64, count),
        annotation_images=np.fromiter((record.image_id for record in records), np.int64, count),
        annotation_categories=np.fromiter((record.category_id for record in records), np.int64, count),
        boxes=np.array([record.bbox for record in records], np.float64).reshape(-1, 4),
        areas=np.fromiter((record.area for record in records), np.float64, count),
        area_stated=np.ones(count, bool),
        crowd=np.fromiter((record.iscrowd for record in records), bool, count),
        odd_crowd=np.zeros(count, bool),
        segmentations=flatten(segmentations, parts, coordinates),
    )


def joined_columns(parts: Sequence[Annotations]) -> Annotations:
    """Several, one after the other; at least one."""
    columns = {
        column.name: np.concatenate([getattr(part, column.name) for part in parts])
        for column in fields(Annotations)
        if column.name != "segmentations"
    }
    return Annotations(**columns, segmentations=joined([part.segmentations for part in parts]))
