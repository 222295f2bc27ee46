"""`srfgan predict`: a trained detector on images and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srfgan.models.errors import InputError
from srfgan_cli.screen.options import Devices, Json, Precision, Set

Source = Annotated[
    list[str],
    typer.Argument(
        help="Images, videos, folders, patterns; `-`: a path a line on stdin.", metavar="SOURCE..."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="A checkpoint, a run's folder, an .onnx of srfgan export or OpenVINO's .xml; default: the newest run.",
        metavar="FILE|DIR",
        rich_help_panel="Recipe",
    ),
]
OtherPreset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Only for weights that do not say what they are: detectron2's, or `published`.",
        metavar="NAME",
        rich_help_panel="Recipe",
    ),
]
Threshold = Annotated[
    float, typer.Option("--score-threshold", min=0, max=1, help="Keep detections from this score on.")
]
Classes = Annotated[
    str | None, typer.Option("--classes", help="Keep these classes only, with commas.", metavar="NAME,NAME")
]
TTA = Annotated[bool, typer.Option("--tta", help="Look at several sizes, each also mirrored.")]
Tiles = Annotated[
    int | None,
    typer.Option("--tiles", min=64, help="Look at large images in parts of so many pixels.", metavar="N"),
]
Overlap = Annotated[
    float | None,
    typer.Option(
        "--overlap", min=0, max=0.9, help="Share of a tile that the next one sees too; default: 0.2."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Images, frames or tiles at a time; default: 1, or what an .onnx file takes.",
    ),
]
Save = Annotated[
    str,
    typer.Option(
        "--save", help="What to write, with commas: pictures, results, csv, crops.", rich_help_panel="Output"
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", help="A new folder; default: predictions.", metavar="DIR", rich_help_panel="Output"
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Stop at the first file that cannot be read.", rich_help_panel="Output"),
]


def predict(
    source: Source,
    weights: Weights = None,
    preset: OtherPreset = None,
    set_: Set = None,
    score_threshold: Threshold = 0.5,
    classes: Classes = None,
    tta: TTA = False,
    tiles: Tiles = None,
    overlap: Overlap = None,
    batch_size: BatchSize = None,
    devices: Devices = "auto",
    precision: Precision = None,
    save: Save = "pictures,results,csv",
    output: Output = None,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Detect in images and videos: annotated pictures, COCO results, a table, crops."""
    if overlap is not None and tiles is None:
        raise InputError("--overlap is of tiles, and there are none: add --tiles N, or leave it out.")
    from srfgan_cli.prediction.outputs import parse_kinds
    from srfgan_cli.prediction.sources import find

    kinds, sources = parse_kinds(save), find(source)

    from srfgan_cli.machine.devices import first_device
    from srfgan_cli.machine.heap import keep_freed_memory
    from srfgan_cli.prediction.load import load_detector
    from srfgan_cli.prediction.run_prediction import Request, require_all, run_prediction
    from srfgan_cli.runs.folder import newest_detector
    from srfgan_cli.screen.console import print_json, print_path, stderr

    path = weights or newest_detector()
    if path is None:
        raise InputError("There is no trained detector below runs/: name a checkpoint with --weights.")
    device = first_device(devices, "predict")
    if device.type == "cpu":
        keep_freed_memory()
    predictor = load_detector(
        path,
        preset=preset,
        overrides=set_ or [],
        device=None if devices == "auto" else device,
        tta=tta,
        precision=precision or "fp32",
    )
    stderr.print(f"Weights: {path}")
    request = Request(
        score_threshold=score_threshold,
        batch_size=batch_size or predictor.batch_size,
        tiles=tiles,
        overlap=0.2 if overlap is None else overlap,
        classes=classes,
        kinds=kinds,
        output=output,
        strict=strict,
    )
    summary = run_prediction(predictor, sources, request)
    stderr.print(summary.told())
    if json:
        print_json({"weights": str(path)} | summary.as_json())
    else:
        print_path(summary.output)
    require_all(summary, len(sources.images) + len(sources.videos))
