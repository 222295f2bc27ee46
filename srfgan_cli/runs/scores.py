"""What a run's logged evaluations say of its progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def ap_of(evaluation: Mapping[str, Mapping[str, float | None]]) -> float | None:
    """The AP that runs go by, of masks where objects have any, else of boxes; None where there is none."""
    scored = (evaluation.get(task, {}).get("AP") for task in ("mask", "box"))
    return next((ap for ap in scored if ap is not None), None)


def without_gain(records: Iterable[Mapping[str, Any]]) -> int:
    """How many evaluations have come since the best one, the first of equals; 0 before any.

    Args:
        records: of the log, in their order; those without an `evaluation` are passed over.
    """
    best: float | None = None
    since = 0
    for evaluation in (record["evaluation"] for record in records if "evaluation" in record):
        ap = ap_of(evaluation)
        if ap is not None and (best is None or ap > best):
            best, since = ap, 0
        else:
            since += 1
    return since
