"""`srfgan presets`: what exists, what is in it, and how two differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from models.errors import InputError
from srfgan_cli.console import stdout
from srfgan_cli.options import Json, Set

app = typer.Typer(help="List, show, copy and compare presets.", no_args_is_help=True)

PresetArgument = Annotated[str, typer.Argument(help="Preset name, or your own YAML file.", metavar="NAME")]


@app.command("list")
def list_(
    table: Annotated[str | None, typer.Option("--table", help="Only rows of this table, as table1.")] = None,
    json_: Json = False,
) -> None:
    """All presets, with the papers' numbers."""
    from rich.table import Column, Table

    from srfgan_cli.presets import list_presets

    rows = [row for row in map(_row, list_presets()) if table is None or row["table"] == table]
    if not rows:
        tables = sorted({_row(name)["table"] for name in list_presets()} - {""})
        raise InputError(f"No preset belongs to table '{table}'. Tables: {', '.join(tables)}.")
    if json_:
        typer.echo(json.dumps(rows))
        return
    names = [Column("preset", no_wrap=True), Column("table", no_wrap=True)]
    shown = Table(*names, "box AP", "mask AP", "what", box=None, header_style="bold", pad_edge=False)
    for row in rows:
        shown.add_row(
            row["preset"], row["table"], _number(row["box"]), _number(row["mask"]), row["description"]
        )
    stdout.print(shown)


@app.command()
def show(name: PresetArgument, set_: Set = None) -> None:
    """A preset, fully resolved, as YAML, with its number of parameters."""
    from srfgan_cli.presets import dump_yaml, load_preset
    from srfgan_cli.published import describe_published

    config = load_preset(name, set_ or [])
    typer.echo(f"# {config.description}")
    typer.echo(f"# parameters: {_parameters(config) / 1e6:.1f} M")
    typer.echo(f"# published weights: {describe_published(config)}")
    typer.echo(dump_yaml(config), nl=False)


@app.command()
def copy(
    name: PresetArgument,
    file: Annotated[Path, typer.Argument(help="The YAML file to write.", metavar="FILE")],
) -> None:
    """Copy a preset's own YAML, to change it and use it by its path."""
    from srfgan_cli.presets import find_preset

    if file.suffix not in (".yaml", ".yml"):
        raise InputError(f"{file}: a preset file ends in .yaml.")
    if file.exists():
        raise InputError(f"{file} exists already; choose another name.")
    source = find_preset(name)
    try:
        shutil.copyfile(source, file)
    except OSError as error:
        raise InputError(f"Cannot write {file}: {error.strerror}.") from None
    stdout.print(f"{file} written. Use it: srfgan finetune --preset {file}")


@app.command()
def diff(first: PresetArgument, second: PresetArgument) -> None:
    """The keys in which two presets differ."""
    from rich.table import Table

    from srfgan_cli.presets import flatten, load_preset

    a, b = flatten(load_preset(first)), flatten(load_preset(second))
    keys = [key for key in a | b if a.get(key) != b.get(key) and key != "name"]
    shown = Table("key", first, second, box=None, header_style="bold", pad_edge=False)
    for key in keys:
        shown.add_row(key, str(a.get(key, "")), str(b.get(key, "")))
    stdout.print(shown if keys else "No difference.")


def _row(name: str) -> dict[str, Any]:
    from srfgan_cli.presets import load_preset

    config = load_preset(name)
    reference = config.references[0] if config.references else None
    return {
        "preset": name,
        "table": reference.table if reference else "",
        "box": reference.box.AP if reference else None,
        "mask": reference.mask.AP if reference and reference.mask else None,
        "description": config.description,
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _parameters(config: Any) -> int:
    import torch

    from models import build_detector

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_detector(config.model).parameters())
