"""`srfgan data`: look at a data set before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srfgan_cli.screen.options import (
    Json,
    Preset,
    Set,
    TrainImages,
    TrainJson,
    ValImages,
    ValJson,
    data_overrides,
)

DEFAULT_PRESET = "mask_rcnn_r50_fpn"
"""Whose `data` says which image files may be used: what the base of all presets says."""

Root = Annotated[
    Path | None,
    typer.Argument(help="A data set's folder, as other commands have it at --data-root.", metavar="DIR"),
]

app = typer.Typer(help="Check data sets.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `check` a sub-command while it is the only one."""


@app.command()
def check(
    root: Root = None,
    train_json: TrainJson = None,
    train_images: TrainImages = None,
    val_json: ValJson = None,
    val_images: ValImages = None,
    preset: Preset = DEFAULT_PRESET,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Check every annotation, open every image, count what is there; exit code 2 if it cannot be used."""
    from srfgan_cli.data.given import all_splits
    from srfgan_cli.data.image_check import check_layout
    from srfgan_cli.presets import load_preset
    from srfgan_cli.screen.console import print_json, stderr, stdout

    where = data_overrides(
        data_root=root,
        train_json=train_json,
        train_images=train_images,
        val_json=val_json,
        val_images=val_images,
    )
    data = load_preset(preset or DEFAULT_PRESET, [*where, *(set_ or [])]).data
    reports = check_layout(all_splits(data, root), data)
    for report in reports:
        (stderr if json else stdout).print(report.table())
        if report.overview is not None:
            (stderr if json else stdout).print(report.overview.table())
    if json:
        print_json([report.as_json() for report in reports])
    if any(report.fatal for report in reports):
        raise typer.Exit(2)
