"""`srfgan visualize`: pyramid maps by upsampling method, and drawn detections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srfgan.models.errors import InputError
from srfgan_cli.screen.options import Devices, Preset, Set

LEVELS = ("P2", "P3", "P4", "P5", "P6", "P7")

What = Annotated[
    str, typer.Argument(help="A pyramid level (P2 to P7), or `detections`.", metavar="P2|detections")
]
Methods = Annotated[str, typer.Option("--methods", help="Upsampling methods to compare, with commas.")]
Image = Annotated[
    Path | None,
    typer.Option(
        "--image", help="An image, or a folder of them; default: a built-in one.", metavar="FILE|DIR"
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="Default: the preset's run, or the newest one.", metavar="FILE"),
]
Generator = Annotated[
    Path | None,
    typer.Option("--generator", help="A stage-1 result, for detectors without a generator.", metavar="FILE"),
]
Threshold = Annotated[
    float, typer.Option("--score-threshold", min=0, max=1, help="Draw detections from this score on.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", help="Default: P2.png, or the folder detections/.", metavar="FILE|DIR"),
]


def visualize(
    what: What,
    methods: Methods = "nn,bilinear,srf",
    preset: Preset = None,
    weights: Weights = None,
    generator: Generator = None,
    image: Image = None,
    score_threshold: Threshold = 0.5,
    set_: Set = None,
    devices: Devices = "auto",
    output: Output = None,
) -> None:
    """Draw a pyramid level by several upsampling methods, or a detector's boxes, masks and labels."""
    from srfgan_cli.machine.devices import parse_devices
    from srfgan_cli.visualization.draw import Request, draw_detections, draw_level

    request = Request(
        preset=preset,
        overrides=set_ or [],
        weights=weights,
        generator=generator,
        image=image,
        output=output,
        device=parse_devices(devices).device(),
    )
    if what.upper() in LEVELS:
        draw_level(request, what.upper(), [method.strip() for method in methods.split(",") if method.strip()])
    elif what == "detections":
        draw_detections(request, score_threshold)
    else:
        raise InputError(f"visualize {what}: choose a level ({', '.join(LEVELS)}) or detections.")
