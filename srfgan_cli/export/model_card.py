"""The README.md of a shared detector: what it is, how to use it, what it was trained on, and how well it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from srfgan_cli import __version__
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.describe import describe
from srfgan_cli.runs.trained import TrainedDetector

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR@100")
_CLASSES = 40
"""As many names stand in the card."""


def model_card(config: Config, trained: TrainedDetector, evaluation: Path) -> str:
    """Markdown with the hub's header.

    Args:
        config: the experiment, with the trained detector's own model.
        trained: the detector, with its categories.
        evaluation: the scores of its training, if that file is there.
    """
    return "\n".join(_lines(config, trained, _scores(evaluation))) + "\n"


def _scores(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lines(config: Config, trained: TrainedDetector, scores: dict[str, Any]) -> Iterator[str]:
    assert trained.categories is not None
    names = trained.categories.names
    masks = config.model.has_masks
    yield "---"
    header = {
        "library_name": "srfgan",
        "pipeline_tag": "image-segmentation" if masks else "object-detection",
        "tags": ["object-detection", "srf-gan", config.model.detector, config.model.neck.upsampler],
    }
    yield yaml.safe_dump(header, sort_keys=False).rstrip()
    yield "---\n"
    yield f"# {config.name}\n"
    yield f"{describe(config)}.\n"
    millions = sum(p.numel() for p in trained.detector.parameters()) / 1e6
    yield (
        f"{millions:.1f} million parameters; {'boxes and masks' if masks else 'boxes'} of {len(names)} classes: "
        + (", ".join(names[:_CLASSES]) + (", ..." if len(names) > _CLASSES else ""))
    )
    yield "\n## Use\n"
    yield "```python\nfrom srfgan import load_detector\n"
    yield 'detector = load_detector("hf://OWNER/NAME")  # or this folder'
    yield 'found = detector.predict(["image.jpg"], score_threshold=0.5)\n```\n'
    yield "    srfgan predict photos/ --weights hf://OWNER/NAME"
    yield "    srfgan finetune --preset config.yaml --weights hf://OWNER/NAME --data-root DIR"
    yield "\n## Scores\n"
    yield from _score_lines(scores)
    yield "\n## Training\n"
    solver, data = config.finetune.solver, config.data
    yield f"- {solver.iterations:,} iterations of {solver.batch_size} images, {solver.images:,} in all"
    yield f"- {solver.optimizer}, learning rate {solver.lr:g} for batches of {solver.lr_batch_size}"
    yield f"- short side {_range(data.short_sides)} pixels in training, {data.test_short_side} in tests"
    yield f"- stages: {', '.join(config.stages)}; initial weights: {config.initial_weights}\n"
    again = "finetune" if config.model.neck.upsampler == "nn" else "fit"
    yield f"`config.yaml` has every value: `srfgan {again} --preset config.yaml --data-root DIR` does it again."
    yield "\n## Licence\n"
    yield (
        "The program that reads these weights is Apache-2.0. The weights' own licence is for whoever shares them to "
        "state: it follows from the images and the initial weights that they were trained with."
    )
    yield f"\n*Written by srfgan {__version__}, `srfgan export --format hub`.*"


def _range(sides: list[int]) -> str:
    return f"{min(sides)}" if min(sides) == max(sides) else f"{min(sides)} to {max(sides)}"


def _score_lines(scores: dict[str, Any]) -> Iterator[str]:
    tasks = [task for task in ("box", "mask") if isinstance(scores.get(task), dict)]
    if not tasks:
        yield "Not scored: `srfgan eval --weights hf://OWNER/NAME --data-root DIR` does it."
        return
    yield f"COCO's, in percent, on the {scores.get('images', '?')} images of the {scores.get('split', 'val')} split:\n"
    yield f"| | {' | '.join(METRICS)} |"
    yield f"|---|{'--:|' * len(METRICS)}"
    for task in tasks:
        values = [scores[task].get(metric) for metric in METRICS]
        yield f"| {task} | {' | '.join('' if value is None else f'{value:.1f}' for value in values)} |"
