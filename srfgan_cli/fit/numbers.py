"""The measured numbers as one document, for scripts (`summary.json`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from srfgan_cli.analysis.against import Change
from srfgan_cli.fit.run_fit import Fitted
from srfgan_cli.screen.pages import versions


def summarize(fitted: Fitted) -> dict[str, Any]:
    """The document: scores in percent and costs of `plain` and `method`, what each step took, and what they rest on.

    `gain` is of AP, in points, and `interval` its ends, 95 % over the choice of val images; None on too few of them.
    """
    steps = fitted.steps
    return {
        "preset": fitted.config.name,
        "upsampler": fitted.method,
        "scores": fitted.scores,
        "gain": {task: _rounded(fitted.changes[task]["AP"]) for task in fitted.tasks},
        "interval": {task: _interval(fitted.changes[task]["AP"]) for task in fitted.tasks},
        "costs": {which: asdict(cost) for which, cost in fitted.costs.items()},
        "seconds": {name: round(step.seconds, 1) for name, step in steps.items()}
        | {"total": round(fitted.seconds, 1)},
        "iterations": {name: step.solver.iterations for name, step in steps.items()},
        "images_seen": {name: step.job.images for name, step in steps.items()},
        "data": fitted.data,
        "val_images": fitted.images,
        "scale": fitted.scale,
        "seed": fitted.config.seed,
        "device": fitted.device,
        "versions": versions(),
    }


def price(fitted: Fitted) -> dict[str, float | None]:
    """The method's parameters, arithmetic and time as ratios to the plain detector's; None where that has none."""
    plain, method = (asdict(fitted.costs[which]) for which in ("plain", "method"))
    return {
        unit: round(method[unit] / plain[unit], 3) if plain[unit] else None
        for unit in ("parameters", "gmacs", "ms")
    }


def _rounded(change: Change | None) -> float | None:
    return None if change is None else round(change.value, 2)


def _interval(change: Change | None) -> list[float] | None:
    return None if change is None or change.interval is None else [round(end, 2) for end in change.interval]
