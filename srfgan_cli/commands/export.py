"""`srfgan export`: a detector as a file that runs without this project, checked right after it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from srfgan.models.errors import InputError
from srfgan_cli.screen.options import NOTHING_NAMED, Json, Preset, Set, Weights

Format = Annotated[
    Literal["onnx", "pt2", "detectron2", "hub"],
    typer.Option(
        "--format",
        help="onnx (onnxruntime), pt2 (torch.export), detectron2 (.pth and .yaml), or hub: a folder to share.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", help="Default: model.onnx, .pt2 or .pth, or hub/, beside the weights.", metavar="FILE"
    ),
]
Images = Annotated[
    list[Path] | None,
    typer.Option(
        "--image",
        help="An image, or a folder of them, to compare on instead of built-in ones; repeatable.",
        metavar="FILE|DIR",
    ),
]

Half = Annotated[
    bool,
    typer.Option(
        "--half", help="For onnx: networks in float16, half the size; boxes, scores and NMS in float32."
    ),
]

BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="For onnx and pt2: a file that takes so many images of one size at a time.",
        metavar="N",
    ),
]


def export(
    preset: Preset = None,
    weights: Weights = None,
    format_: Format = "onnx",
    output: Output = None,
    image: Images = None,
    half: Half = False,
    batch_size: BatchSize = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Write a detector as ONNX or torch.export file, NMS included, for detectron2, or to share; compare it."""
    from srfgan_cli.export.export_preset import ExportReport, export_preset
    from srfgan_cli.export.hub_folder import HubReport, export_hub
    from srfgan_cli.runs.trained import config_of

    if preset is None and weights is None:
        raise InputError(NOTHING_NAMED)
    config = config_of(weights, preset, set_ or [])
    report: ExportReport | HubReport
    if format_ == "hub":
        if image:
            raise InputError("--image: a shared folder is compared tensor by tensor, on no images.")
        if half or batch_size is not None:
            raise InputError("--half and --batch-size are for --format onnx, not for hub.")
        report = export_hub(config, weights, output)
    else:
        report = export_preset(config, weights, format_, output, image or [], half=half, batch=batch_size)
    if json:
        from srfgan_cli.screen.console import print_json

        print_json(report.as_json())
