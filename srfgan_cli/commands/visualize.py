"""`srfgan visualize`: pyramid maps and Grad-CAM by upsampling method, drawn detections, two detectors compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srfgan.models.errors import InputError
from srfgan_cli.screen.options import Devices, Preset, Set, ValImages, ValJson, data_overrides

if TYPE_CHECKING:
    from srfgan_cli.data.split_files import Layout

LEVELS = ("P2", "P3", "P4", "P5", "P6", "P7")
_ANY_LEVEL = "P2 to P7"
METHODS, THRESHOLD = "nn,bilinear,srf", 0.5
"""What is drawn where nothing else is said."""

What = Annotated[
    str,
    typer.Argument(
        help="A pyramid level (P2 to P7), `gradcam`, `detections` or `compare`.",
        metavar="P2|gradcam|detections|compare",
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="Levels and gradcam: upsampling methods to compare, with commas; default: nn,bilinear,srf.",
        metavar="NAME,NAME",
    ),
]
Image = Annotated[
    Path | None,
    typer.Option(
        "--image", help="An image, or a folder of them; default: a built-in one.", metavar="FILE|DIR"
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="Default: the preset's run, or the newest one. gradcam: one file, or one per method; compare: two.",
        metavar="FILE[,FILE]",
    ),
]
Generator = Annotated[
    Path | None,
    typer.Option(
        "--generator",
        help="Levels and gradcam: a stage-1 result, for detectors without a generator.",
        metavar="FILE",
    ),
]
Class = Annotated[
    str | None,
    typer.Option("--class", help="gradcam: of the best detection of this class.", metavar="NAME"),
]
Layer = Annotated[
    str | None,
    typer.Option("--layer", help="gradcam: a pyramid level; default: all together.", metavar="P2"),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--score-threshold", min=0, max=1, help="detections, compare: draw from this score on; default: 0.5."
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="compare: the images' data set, for the truth.", metavar="DIR"),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", help="Default: P2.png, gradcam.png, detections/ or compare/.", metavar="FILE|DIR"
    ),
]


def visualize(
    what: What,
    methods: Methods = None,
    preset: Preset = None,
    weights: Weights = None,
    generator: Generator = None,
    image: Image = None,
    class_: Class = None,
    layer: Layer = None,
    data_root: DataRoot = None,
    val_json: ValJson = None,
    val_images: ValImages = None,
    score_threshold: Threshold = None,
    set_: Set = None,
    devices: Devices = "auto",
    output: Output = None,
) -> None:
    """Draw features, the evidence for a detection, or detections, of one detector or of two side by side."""
    from srfgan_cli.machine.devices import first_device
    from srfgan_cli.visualization.draw import draw_detections, draw_level
    from srfgan_cli.visualization.draw_compare import draw_comparisons
    from srfgan_cli.visualization.draw_gradcam import draw_gradcam
    from srfgan_cli.visualization.request import Request

    what = what.upper() if what.upper() in LEVELS else what
    if what not in (*LEVELS, "gradcam", "detections", "compare"):
        raise InputError(
            f"visualize {what}: choose a level ({', '.join(LEVELS)}), gradcam, detections or compare."
        )
    kind = _ANY_LEVEL if what in LEVELS else what
    for option, given, of in (
        ("--methods", methods, (_ANY_LEVEL, "gradcam")),
        ("--generator", generator, (_ANY_LEVEL, "gradcam")),
        ("--class", class_, ("gradcam",)),
        ("--layer", layer, ("gradcam",)),
        ("--score-threshold", score_threshold, ("detections", "compare")),
        ("--data-root", data_root, ("compare",)),
        ("--val-json", val_json, ("compare",)),
        ("--val-images", val_images, ("compare",)),
    ):
        if given is not None and kind not in of:
            raise InputError(
                f"{option} is an option of visualize {' and '.join(of)}, not of visualize {what}."
            )
    request = Request(
        preset=preset,
        overrides=set_ or [],
        weights=weights,
        generator=generator,
        image=image,
        output=output,
        device=first_device(devices, "visualize"),
    )
    names = [
        method.strip() for method in (METHODS if methods is None else methods).split(",") if method.strip()
    ]
    threshold = THRESHOLD if score_threshold is None else score_threshold
    if what in LEVELS:
        draw_level(request, what, names)
    elif what == "gradcam":
        draw_gradcam(request, names, class_, layer)
    elif what == "detections":
        draw_detections(request, threshold)
    else:
        draw_comparisons(request, threshold, _data(data_root, val_json, val_images))


def _data(data_root: Path | None, val_json: Path | None, val_images: Path | None) -> Layout | None:
    """The data set that options name, if they do."""
    from srfgan_cli.data.given import all_splits
    from srfgan_cli.presets import load_preset

    overrides = data_overrides(val=(val_json, val_images))
    if data_root is None and not overrides:
        return None
    return all_splits(load_preset("mask_rcnn_r50_fpn", overrides).data, data_root)
