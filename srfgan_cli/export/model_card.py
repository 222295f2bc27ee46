"""The README.md of a shared detector: what it is, how to use it, what it was trained on, and how well it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from srfgan_cli import __version__
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.describe import describe
from srfgan_cli.runs.folder import Run, logged
from srfgan_cli.runs.trained import TrainedDetector

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_RECALL = "AR@"
_CLASSES = 40
"""As many names stand in the card."""


def model_card(config: Config, trained: TrainedDetector) -> str:
    """Markdown with the hub's header.

    Args:
        config: the experiment, with the trained detector's own model.
        trained: the detector, with its categories.
    """
    return "\n".join(_lines(config, trained, _scores(trained))) + "\n"


def _scores(trained: TrainedDetector) -> dict[str, Any]:
    """What the run beside these very weights has scored: its result, or its best; of other files nothing is known.

    Raises:
        InputError: its file of scores is damaged.
    """
    run = Run(trained.path.parent)
    last = run.scored()
    if trained.path == run.model:
        return last
    if trained.path != run.best:
        return {}
    then = [
        record.get("evaluation") for record in logged(run.metrics) if record["iteration"] == trained.iteration
    ]
    found = next((scores for scores in then if isinstance(scores, dict)), {})
    return {key: value for key, value in last.items() if key in ("images", "split")} | found


def _lines(config: Config, trained: TrainedDetector, scores: dict[str, Any]) -> Iterator[str]:
    assert trained.categories is not None
    names = trained.categories.names
    classes = f"{len(names)} class{'es' if len(names) > 1 else ''}"
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
        f"{millions:.1f} million parameters; {'boxes and masks' if masks else 'boxes'} of {classes}: "
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
    solver, data = getattr(config, trained.stage).solver, config.data
    if trained.stage == "extract":
        yield "- stage 2 of the method: the extractor, which learns from images of half the size"
    done = solver.iterations if trained.iteration is None else trained.iteration
    of = f" of the {solver.iterations:,} that were planned" if done != solver.iterations else ""
    yield f"- {done:,} iterations{of}, {solver.batch_size} images each, {done * solver.batch_size:,} in all"
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
    where = f"{scores.get('images', '?')} images of the {scores.get('split', 'val')} split"
    yield f"COCO's, in percent, on the {where}:\n"
    metrics = (*METRICS, *_most_recall(scores[tasks[0]]))
    yield f"| | {' | '.join(metrics)} |"
    yield f"|---|{'--:|' * len(metrics)}"
    for task in tasks:
        values = [scores[task].get(metric) for metric in metrics]
        yield f"| {task} | {' | '.join(f'{v:.1f}' if isinstance(v, int | float) else '' for v in values)} |"


def _most_recall(scores: Mapping[str, Any]) -> list[str]:
    """The name of the recall at the most detections, `AR@100` where COCO's hundred count."""
    return sorted((name for name in scores if name.startswith(_RECALL)), key=len)[-1:]
