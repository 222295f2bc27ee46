"""One evaluation from a preset and options to its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from srfgan_cli.data.dataset import DetectionDataset
from srfgan_cli.data.open import open_split
from srfgan_cli.data.split_files import Split
from srfgan_cli.evaluation.evaluate import evaluate, results_name
from srfgan_cli.evaluation.reference import reference_of
from srfgan_cli.evaluation.report import Report
from srfgan_cli.evaluation.tta import MultiScale
from srfgan_cli.machine.devices import Devices
from srfgan_cli.machine.distributed import open_world
from srfgan_cli.machine.files import require_writable
from srfgan_cli.presets.config import Config, Precision
from srfgan_cli.runs.folder import Run
from srfgan_cli.runs.published import PUBLISHED
from srfgan_cli.runs.trained import folder_beside, load_trained, weights_of


@dataclass(frozen=True)
class EvaluationOptions:
    """What the command line adds to a preset.

    Attributes:
        weights: the detector's file; None: the run of the preset's last stage; `published`: the authors'.
        output_dir: where results.json goes; None: beside the weights, `runs/published/<preset>/` for the authors'; a
            run's best weights have `best/` there: its own results are those of `model.pt`.
    """

    split: Split = "val"
    data_root: Path | None = None
    weights: Path | None = None
    output_dir: Path | None = None
    batch_size: int = 1
    precision: Precision = "fp32"
    by_group: bool = False

    def folder(self, beside: Path) -> Path:
        """Where results.json goes, `beside` the weights if nothing else is said; those of another split than val to a
        folder of its name there, `train/` or `test/`, as a run's own are of the val split."""
        return self.output_dir or (beside if self.split == "val" else beside / self.split)


def open_scored(config: Config, options: EvaluationOptions) -> DetectionDataset:
    """The data to score on.

    Raises:
        InputError: it cannot be used.
    """
    return open_split(
        config.data,
        options.data_root,
        options.split,
        training=False,
        masks=False,
        resize=not config.evaluation.tta.enabled,
        count_unusable=config.evaluation.count_unusable,
    )


def evaluate_preset(
    config: Config, devices: Devices, options: EvaluationOptions, dataset: DetectionDataset
) -> Report | None:
    """Score a preset's detector on what `open_scored` gave; every process of the run calls it.

    Returns:
        The report on the main process, None on the others.

    Raises:
        InputError: weights or output that cannot be used.
    """
    tta = config.evaluation.tta
    reference = reference_of(config, options.split, published=options.weights == PUBLISHED)
    max_detections = config.evaluation.max_detections
    path = weights_of(config, options.weights)
    trained = load_trained(config, path, dataset.categories)
    beside = folder_beside(config, options.weights, path)
    folder = options.folder(beside / path.stem if path == Run(path.parent).best else beside)
    require_writable(folder)
    with open_world(devices) as world:
        if world.is_main:
            dataset.index.report.tell()
        trained.detector.to(world.device)
        return evaluate(
            MultiScale(trained.detector, tta) if tta.enabled else trained.detector,
            dataset,
            preset=config.name,
            max_detections=max_detections,
            reference=reference,
            results_path=folder / results_name(dataset.index, config.name, tta=tta.enabled),
            workers=config.data.workers,
            batch_size=options.batch_size,
            precision=options.precision,
            by_group=options.by_group,
            world=world,
        )
