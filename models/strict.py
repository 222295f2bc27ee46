"""The base of all configs and facts, apart from them: whoever reads facts builds no detector's config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictConfig(BaseModel):
    """Base of all configs: immutable, no unknown keys, no silent conversion of types, finite numbers.

    Every number has bounds, wide ones: what lies outside is a slip of the pen, not an experiment.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )
