"""What a table's trained detectors cost, and what their pyramids look like."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from srfgan.models.count import cost_of
from srfgan.models.detector import Detector
from srfgan_cli.data.open import open_split
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.reproduction.graph import Graph, Job, detector_job
from srfgan_cli.reproduction.jobs import JobFolder
from srfgan_cli.runs.trained import load_trained
from srfgan_cli.visualization.feature_maps import level_maps
from srfgan_cli.visualization.maps import p2_panel

TURNS = 5


@dataclass(frozen=True)
class Cost:
    """What one detector costs.

    Attributes:
        parameters: all of them, frozen ones included.
        gmacs: billions of multiply-accumulates for one image of `size`, as `srfgan.models.count` counts them.
        ms: median milliseconds of one image from pixels to detections, alone on the device.
        size: height and width of that image.
    """

    parameters: int
    gmacs: float
    ms: float
    size: tuple[int, int]


def measure(
    graph: Graph,
    folders: Mapping[str, JobFolder],
    data_root: Path | None,
    device: torch.device,
    cache: Path,
    *,
    data: str,
) -> dict[str, Cost]:
    """The cost of each row whose first seed is trained; `data` tells data sets apart in `cache`.

    All detectors that are not in `cache` yet take turns on the same image of the val split, so that a
    machine whose speed drifts treats them alike.
    """
    known = _read(cache)
    jobs = {row: detector_job(graph, row) for row in _finished_rows(graph, folders)}
    keys = {row: _key(job, device, data) for row, job in jobs.items()}
    missing = {keys[row]: jobs[row] for row in jobs if keys[row] not in known}
    if missing:
        image = _first_image(next(iter(missing.values())), data_root)
        detectors = {key: _load(job, folders).to(device) for key, job in missing.items()}
        times = _take_turns(detectors, image)
        size = (image.shape[1], image.shape[2])
        for key, detector in detectors.items():
            counted = cost_of(detector.config, *size)
            known[key] = Cost(
                counted.parameters, round(counted.macs / 1e9, 1), round(times[key] * 1000, 1), size
            )
        _write(cache, known)
    return {row: known[key] for row, key in keys.items()}


def draw_panels(
    graph: Graph,
    folders: Mapping[str, JobFolder],
    data_root: Path | None,
    device: torch.device,
    output_dir: Path,
) -> dict[str, Path]:
    """A panel of the finest level for every trained row that does not upsample by nearest neighbour."""
    panels: dict[str, Path] = {}
    for row in _finished_rows(graph, folders):
        job = detector_job(graph, row)
        method = job.config.model.neck.upsampler
        if method == "nn":
            continue
        path = output_dir / f"panel-{job.key}.png"
        if not path.is_file():
            image = _first_image(job, data_root)
            detector = _load(job, folders).to(device)
            methods = list(dict.fromkeys(("nn", "bilinear", method)))
            level = detector.config.levels[0]
            picture = p2_panel(image, level_maps(detector, image, methods, level=level).maps, level=level)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, optimize=True)
        panels[row] = path
    return panels


def _finished_rows(graph: Graph, folders: Mapping[str, JobFolder]) -> list[str]:
    return [name for name in graph.presets if folders[detector_job(graph, name).key].run.model.is_file()]


def _load(job: Job, folders: Mapping[str, JobFolder]) -> Detector:
    return load_trained(job.config, folders[job.key].run.model).detector


def _first_image(job: Job, data_root: Path | None) -> Tensor:
    """(3, H, W) uint8 at the size that the detector is tested at."""
    val = open_split(job.config.data, data_root, "val", training=False, masks=False)
    return val[(0, 0)].image


def _take_turns(detectors: dict[str, Detector], image: Tensor) -> dict[str, float]:
    """Median seconds of each detector over `TURNS` turns, after one that is not counted."""
    seconds: dict[str, list[float]] = {key: [] for key in detectors}
    for turn in range(TURNS + 1):
        order = list(detectors) if turn % 2 == 0 else list(reversed(detectors))
        for key in order:
            started = time.perf_counter()
            with torch.inference_mode():
                # Bringing a result to the host also waits for a GPU.
                detectors[key].detect([image])[0].boxes.cpu()
            if turn:
                seconds[key].append(time.perf_counter() - started)
    return {key: statistics.median(values) for key, values in seconds.items()}


def _key(job: Job, device: torch.device, data: str) -> str:
    """What decides the cost: detector, device, and the data set, whose image and number of classes it has."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    decisive = job.config.model.model_dump_json() + job.config.data.model_dump_json() + data
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:10]
    return f"{digest} on {name}"


def _read(cache: Path) -> dict[str, Cost]:
    try:
        stored = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: Cost(**{**value, "size": tuple(value["size"])}) for key, value in stored.items()}


def _write(cache: Path, known: Mapping[str, Cost]) -> None:
    text = json.dumps({key: cost.__dict__ for key, cost in known.items()}, indent=2)
    write_atomically(cache, lambda file: file.write(text.encode()))
