"""`training.html` of a run, drawn anew while it trains: curves, what the network gets, and what it finds."""

from __future__ import annotations

import io
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from srfgan.models.detector import Detector
from srfgan_cli.data.dataset import DetectionDataset, Sample
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.machine.precision import float32_products
from srfgan_cli.presets.config import Config, SolverConfig, StageName
from srfgan_cli.runs.folder import Run, logged
from srfgan_cli.runs.scores import without_gain
from srfgan_cli.screen.pages import figure, head, versions
from srfgan_cli.training.watch import Pictures
from srfgan_cli.visualization.contact_sheet import on_one_sheet, with_target
from srfgan_cli.visualization.detections import draw
from srfgan_cli.visualization.svg_chart import line_chart

TEMPLATE = Path(__file__).with_name("training_page.html")
EXAMPLES = 4
"""Images of the val split whose detections are kept: the first ones, so that nothing is picked by how it went."""
SAMPLES = 8
"""Images of the first batches, with their targets."""
ROUNDS = 6
"""Evaluations whose detections the page shows: the last ones."""
SCORE_THRESHOLD = 0.3
_CELL, _WHITE = 320, (255, 255, 255)


class TrainingPage:
    """Looks on at a training (`training.watch.Watch`).

    Args:
        run: its folder gets `training.html`, and `training/` with the pictures.
        config: the whole recipe.
        stage: the one that trains.
    """

    def __init__(self, run: Run, config: Config, stage: StageName) -> None:
        self.run, self.config, self.stage = run, config, stage
        self.folder = run.folder / "training"
        self.val: DetectionDataset | None = None

    def begin(self, train: DetectionDataset, val: DetectionDataset | None) -> Pictures:
        """Draw the first training images as the network gets them, and the truth of the val images."""
        self.val = val
        names = train.categories.names
        samples = [train[(number % len(train), number)] for number in range(min(SAMPLES, len(train)))]
        drawn = {
            "samples": self._save("samples", [with_target(one.image, one.target, names) for one in samples])
        }
        if val is not None:
            truth = [with_target(one.image, one.target, names) for one in _examples(val)]
            drawn["truth"] = self._save("truth", truth)
        self.refresh()
        return drawn

    def scored(self, iteration: int, detector: Detector) -> Pictures:
        """Draw what the detector finds now in the same val images."""
        assert self.val is not None
        names = self.val.categories.names
        device, training = next(detector.parameters()).device, detector.training
        detector.eval()
        pictures = []
        for sample in _examples(self.val):
            with torch.inference_mode(), float32_products("fp32"):
                found = detector([sample.image.to(device)])[0]
            drawn = draw(sample.image, found.to("cpu"), names, score_threshold=SCORE_THRESHOLD)
            pictures.append(to_pil_image(drawn))
        detector.train(training)
        return {"found": self._save(f"found-{iteration}", pictures)}

    def refresh(self) -> None:
        """Write the page from the log and the pictures."""
        frame = Template(TEMPLATE.read_text(encoding="utf-8"))
        text = frame.substitute(self._values())
        write_atomically(self.run.page, lambda file: file.write(text.encode(errors="backslashreplace")))

    def _save(self, name: str, pictures: Sequence[Image.Image]) -> Image.Image:
        content = io.BytesIO()
        sheet = on_one_sheet(pictures, _CELL, _WHITE)
        sheet.save(content, "JPEG", quality=82)
        write_atomically(self.folder / f"{name}.jpg", lambda file: file.write(content.getvalue()))
        return sheet

    def _values(self) -> dict[str, str]:
        records = logged(self.run.metrics)
        solver = getattr(self.config, self.stage).solver
        reached = max((int(record["iteration"]) for record in records), default=0)
        since = without_gain(records)
        state = _state(reached, solver, since)
        series = _series(records)
        charts = [
            line_chart("losses", series["losses"], smooth=True),
            *(line_chart(f"{task} AP, percent", series[task], from_zero=True) for task in ("box", "mask")),
            line_chart("gradient norms", series["gradient_norms"], smooth=True),
            line_chart("learning rate", series["lr"]),
            line_chart("images per second", series["images_per_second"], smooth=True),
        ]
        return {
            "head": head(),
            "title": f"{self.stage} {escape(self.config.name)}",
            "state": state,
            "again": ""
            if _ended(reached, solver, since)
            else " Load this page again for what has come since.",
            "images": f"{solver.images:,}",
            "schedule": f"{solver.iterations:,} iterations of {solver.batch_size} images, {solver.optimizer}, "
            f"learning rate {solver.scaled_lr:.3g}, {solver.precision}",
            "charts": "\n".join(chart for chart in charts if chart),
            "samples": _figure(self.folder / "samples.jpg", "Training images with their targets"),
            "found": "\n".join(self._rounds(reached)),
            "command": escape(shlex.join(["srfgan", *sys.argv[1:]])),
            "versions": escape(", ".join(f"{name} {version}" for name, version in versions().items())),
        }

    def _rounds(self, reached: int) -> Iterator[str]:
        """Truth, and what was found at the last evaluations that the log still has, newest first."""
        if not (self.folder / "truth.jpg").is_file():
            yield "<p>This stage has no detector: nothing is found.</p>"
            return
        yield "<h3>Truth</h3>" + _figure(self.folder / "truth.jpg", "Truth")
        kept = {int(path.stem.split("-")[1]): path for path in self.folder.glob("found-*.jpg")}
        for iteration in sorted((number for number in kept if number <= reached), reverse=True)[:ROUNDS]:
            title = f"Iteration {iteration:,}"
            yield f"<h3>{title}</h3>" + _figure(kept[iteration], f"Detections at iteration {iteration}")


def _state(reached: int, solver: SolverConfig, since: int) -> str:
    """How far a run is; `since` evaluations ago it was best."""
    if reached >= solver.iterations:
        return "Done"
    place = f"iteration {reached:,} of {solver.iterations:,}"
    if _ended(reached, solver, since):
        return f"Stopped early, at {place}: no better AP in {since} evaluation(s)"
    return place.capitalize()


def _ended(reached: int, solver: SolverConfig, since: int) -> bool:
    """Whether a run goes no further."""
    return reached >= solver.iterations or (solver.patience is not None and since >= solver.patience)


def _examples(val: DetectionDataset) -> list[Sample]:
    return [val[(number, 0)] for number in range(min(EXAMPLES, len(val)))]


def _figure(path: Path, description: str) -> str:
    return figure(path, description, "wide") if path.is_file() else ""


def _series(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Points by chart and name."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        at = float(record["iteration"])
        for chart in ("losses", "gradient_norms"):
            for name, value in record.get(chart, {}).items():
                found[chart][name.removeprefix("loss_")].append((at, value))
        for name in ("lr", "images_per_second"):
            if name in record:
                found[name][name.replace("_", " ")].append((at, record[name]))
        for task, scores in record.get("evaluation", {}).items():
            for metric in ("AP", "AP50", "AP75"):
                if scores.get(metric) is not None:
                    found[task][metric].append((at, scores[metric]))
    return found
