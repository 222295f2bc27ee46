"""The detectors as one type: which class a mapping is of, and what only some of them have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field, TypeAdapter

from srfgan.models.config.atss import ATSSConfig
from srfgan.models.config.centermask import CenterMaskConfig
from srfgan.models.config.common import ModelConfig
from srfgan.models.config.fcos import FCOSConfig
from srfgan.models.config.libra_rcnn import LibraRCNNConfig
from srfgan.models.config.panet import PANetConfig
from srfgan.models.config.retinanet import RetinaNetConfig
from srfgan.models.config.sparse_rcnn import SparseRCNNConfig
from srfgan.models.config.tridentnet import TridentNetConfig
from srfgan.models.config.two_stage import (
    CascadeMaskRCNNConfig,
    CascadeRCNNConfig,
    FasterRCNNConfig,
    MaskRCNNConfig,
)

_OneOfThem = Annotated[
    FasterRCNNConfig
    | MaskRCNNConfig
    | CascadeRCNNConfig
    | CascadeMaskRCNNConfig
    | PANetConfig
    | LibraRCNNConfig
    | TridentNetConfig
    | RetinaNetConfig
    | FCOSConfig
    | ATSSConfig
    | CenterMaskConfig
    | SparseRCNNConfig,
    Field(discriminator="detector"),
]
DETECTORS: dict[str, type[ModelConfig]] = {
    cls.model_fields["detector"].default: cls for cls in get_args(get_args(_OneOfThem)[0])
}
"""The classes by what their `detector` says."""
DEFAULT = "mask_rcnn"
"""The detector of a mapping that names none."""

_SHARED = set.intersection(*(set(cls.model_fields) for cls in DETECTORS.values()))
_SECTIONS = {name: cls.model_fields.keys() - _SHARED for name, cls in DETECTORS.items()}
_EVERY_SECTION = frozenset().union(*_SECTIONS.values())
_SECTIONS_OF_0_1 = frozenset(
    ("anchors", "box_head", "cascade", "centermask", "fcos", "mask_head", "retinanet", "rpn", "sparse_rcnn")
)
"""What every config of that version has, whatever its detector."""


def _prepared(values: Any) -> Any:
    """A mapping with the detector's name; of the sections of all detectors, which 0.1 wrote, its own."""
    if not isinstance(values, Mapping):
        return values
    values = {"detector": DEFAULT, **values}
    return own_sections(values, values["detector"]) if values.keys() >= _SECTIONS_OF_0_1 else values


AnyModelConfig = Annotated[_OneOfThem, BeforeValidator(_prepared)]
"""A field's type: any detector's config."""
_ADAPTER: TypeAdapter[ModelConfig] = TypeAdapter(AnyModelConfig)


def parse_model(values: Any) -> ModelConfig:
    """The config that a mapping describes, `mask_rcnn`'s where it names no detector.

    Raises:
        ValidationError: pydantic's, of a mapping that fits no detector.
    """
    return _ADAPTER.validate_python(values)


def own_sections(values: Mapping[str, Any], detector: Any) -> dict[str, Any]:
    """`values` without the sections that only other detectors have; all of them for a name that no detector has."""
    others = _EVERY_SECTION - _SECTIONS.get(detector, _EVERY_SECTION) if isinstance(detector, str) else ()
    return {key: value for key, value in values.items() if key not in others}


def owners(section: str) -> list[str]:
    """The detectors that have this section of their own; none where it is no such section."""
    return [name for name, sections in _SECTIONS.items() if section in sections]
