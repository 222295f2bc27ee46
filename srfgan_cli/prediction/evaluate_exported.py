"""Scores of an exported file: what became of a detector on its way to where it is used."""

from __future__ import annotations

from collections.abc import Iterable

from srfgan.models.errors import InputError
from srfgan_cli.data.dataset import DetectionDataset
from srfgan_cli.evaluation.evaluate import evaluate, results_name
from srfgan_cli.evaluation.evaluate_preset import EvaluationOptions
from srfgan_cli.evaluation.report import Report
from srfgan_cli.export.exported_detector import ExportedDetector
from srfgan_cli.machine.devices import Devices
from srfgan_cli.machine.distributed import open_world
from srfgan_cli.machine.files import require_writable
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.library import stored_config
from srfgan_cli.runs.trained import check_same_classes


def config_of_exported(
    detector: ExportedDetector, overrides: Iterable[str], max_detections: int | None = None
) -> Config:
    """What an exported file says of how it is scored: sizes of images, detections that it gives and that count.

    Args:
        detector: the file, opened.
        overrides: where the data is, and the like.
        max_detections: of an image, that count; None: as many as the scores of the file's preset.

    Raises:
        InputError: it gives fewer detections, or the overrides are not valid.
    """
    counted = max_detections or detector.counted
    if counted > detector.most:
        raise InputError(
            f"--max-detections {counted}: {detector.path} gives {detector.most} detections of an image at most; export "
            f"it with --set model.inference.detections_per_image={counted}."
        )
    values = {
        "name": detector.preset,
        "data": {
            "test_short_side": detector.resize.short_sides[0],
            "test_max_side": detector.resize.max_side,
            "workers": 1,
        },
        "model": {"inference": {"detections_per_image": detector.most}},
        "evaluation": {"max_detections": counted, "batch_size": detector.batch or 1},
    }
    return stored_config(values, detector.path, overrides)


def evaluate_exported(
    detector: ExportedDetector,
    config: Config,
    devices: Devices,
    options: EvaluationOptions,
    dataset: DetectionDataset,
) -> Report | None:
    """Score an exported file on what `open_scored` gave; every process of the run calls it.

    Results go to a folder of the file's name beside it, unless `options` name one.

    Returns:
        The report on the main process, None on the others.

    Raises:
        InputError: the file knows other classes than the data set's, or the output cannot be written.
    """
    path = detector.path
    check_same_classes(detector.required_categories, dataset.categories, path)
    folder = options.folder(path.parent / path.stem)
    require_writable(folder)
    with open_world(devices) as world:
        if world.is_main:
            dataset.index.report.tell()
        return evaluate(
            detector,
            dataset,
            preset=config.name,
            max_detections=config.evaluation.max_detections,
            results_path=folder / results_name(dataset.index, config.name),
            workers=config.data.workers,
            batch_size=options.batch_size,
            by_group=options.by_group,
            world=world,
        )
