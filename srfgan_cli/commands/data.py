"""`srfgan data`: look at a data set before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srfgan_cli.screen.options import Json, Preset, Set

DEFAULT_PRESET = "mask_rcnn_r50_fpn"
"""Whose `data` says which image files may be used: what the base of all presets says."""

app = typer.Typer(help="Check data sets.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `check` a sub-command while it is the only one."""


@app.command()
def check(
    root: Annotated[
        Path, typer.Argument(help="COCO layout: train2017/, val2017/, annotations/.", metavar="DIR")
    ],
    preset: Preset = DEFAULT_PRESET,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Check every annotation, open every image, count what is there; exit code 2 if it cannot be used."""
    from srfgan_cli.data.image_check import check_root
    from srfgan_cli.presets import load_preset
    from srfgan_cli.screen.console import print_json, stderr, stdout

    reports = check_root(root, load_preset(preset or DEFAULT_PRESET, set_ or []).data)
    for report in reports:
        (stderr if json else stdout).print(report.table())
        if report.overview is not None:
            (stderr if json else stdout).print(report.overview.table())
    if json:
        print_json([report.as_json() for report in reports])
    if any(report.fatal for report in reports):
        raise typer.Exit(2)
