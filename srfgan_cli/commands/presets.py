"""`srfgan presets`: what exists, what is in it, and how two differ."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import InputError
from srfgan_cli.screen.console import print_json, stdout, styled
from srfgan_cli.screen.options import Json, Set

if TYPE_CHECKING:
    from srfgan_cli.presets.config import Scores
    from srfgan_cli.presets.tables import Entry

app = typer.Typer(help="List, show, copy and compare presets.", no_args_is_help=True)

PresetArgument = Annotated[str, typer.Argument(help="Preset name, or your own YAML file.", metavar="NAME")]


@app.command("list")
def list_(
    table: Annotated[str | None, typer.Option("--table", help="Only rows of this table, as table1.")] = None,
    json_: Json = False,
) -> None:
    """All presets by table, with the papers' box and mask AP."""
    from rich.table import Table

    from srfgan_cli.presets.tables import entries_by_table, load_tables

    tables = entries_by_table()
    if table is not None and table not in load_tables():
        raise InputError(f"There is no table '{table}'. Tables: {', '.join(load_tables())}.")
    chosen = tables if table is None else {table: tables[table]}
    if json_:
        print_json([_row(entry) for entries in chosen.values() for entry in entries])
        return
    longest = max(len(entry.preset) for entries in tables.values() for entry in entries)
    for name, entries in chosen.items():
        shown = Table(box=None, header_style="dim", pad_edge=False)
        shown.add_column("preset", no_wrap=True, width=longest)
        for column in ("box", "mask", "what"):
            shown.add_column(column)
        for entry in entries:
            reference = entry.reference
            scores = (_number(reference.box), _number(reference.mask))
            shown.add_row(entry.preset, *scores, entry.config.description)
        title = load_tables()[name].title if name else "no row of a table"
        stdout.print(styled((title, "bold")), shown, "", sep="\n")


@app.command()
def show(name: PresetArgument, set_: Set = None, json_: Json = False) -> None:
    """A preset, fully resolved, as YAML; above it its size, arithmetic, schedule and table rows."""
    from srfgan_cli.presets.digest import summary, summary_lines
    from srfgan_cli.presets.library import dump_yaml, load_preset
    from srfgan_cli.runs.published import describe_published

    config = load_preset(name, set_ or [])
    if json_:
        print_json(summary(config))
        return
    for line in (*summary_lines(config), f"published weights: {describe_published(config)}"):
        stdout.print("\n".join(f"# {part}" for part in line.splitlines()))
    stdout.print(dump_yaml(config, stdout.encoding), end="")


@app.command()
def copy(
    name: PresetArgument,
    file: Annotated[Path, typer.Argument(help="The YAML file to write.", metavar="FILE")],
) -> None:
    """Copy a preset's own YAML, to change it and use it by its path."""
    from srfgan_cli.presets.library import find_preset

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

    from srfgan_cli.presets.library import flatten, load_preset

    a, b = flatten(load_preset(first)), flatten(load_preset(second))
    keys = [key for key in a | b if a.get(key) != b.get(key) and key != "name"]
    shown = Table("key", first, second, box=None, header_style="bold", pad_edge=False)
    for key in keys:
        shown.add_row(key, str(a.get(key, "")), str(b.get(key, "")))
    stdout.print(shown if keys else "No difference.")


def _row(entry: Entry) -> dict[str, Any]:
    reference = entry.reference
    return {
        "preset": entry.preset,
        "table": reference.table,
        "box": reference.box.AP,
        "mask": reference.mask.AP if reference.mask else None,
        "description": entry.config.description,
        "reference": reference.model_dump(exclude_none=True) if reference.table else {},
    }


def _number(scores: Scores | None) -> str:
    """The AP; where a document gives it for sizes of objects only, that of small ones."""
    if scores is None or (scores.AP is None and scores.APs is None):
        return ""
    return f"{scores.AP:.1f}" if scores.AP is not None else f"APs {scores.APs:.1f}"
