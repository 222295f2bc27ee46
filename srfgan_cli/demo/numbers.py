"""The demo's measured numbers as one document, for scripts (`summary.json`)."""

from __future__ import annotations

from typing import Any

from srfgan_cli.demo.run_demo import Outcome
from srfgan_cli.screen.pages import versions


def summarize(outcome: Outcome) -> dict[str, Any]:
    """The document: `nn` and `srf` (precisions in percent by task), `seconds` by step, and what they rest on."""
    data, parameters = outcome.steps["finetune"].config.data, outcome.pictures.parameters
    seconds = {name: round(step.seconds, 1) for name, step in outcome.steps.items()}
    return {
        "nn": outcome.scores("baseline"),
        "srf": outcome.scores("finetune"),
        "seconds": {**seconds, "total": round(outcome.seconds, 1)},
        "iterations": {name: step.iterations for name, step in outcome.steps.items()},
        "images_seen": {name: step.images for name, step in outcome.steps.items()},
        "parameters": {"nn": parameters["baseline"], "srf": parameters["finetune"]},
        "data": {"train": data.shapes_train, "val": data.shapes_val, "size": data.shapes_size},
        "seed": outcome.steps["finetune"].config.seed,
        "device": outcome.device,
        "versions": versions(),
    }
