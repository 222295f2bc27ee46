"""`srfgan presets`: what exists, what is in it, and how two differ."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srfgan.models.errors import InputError
from srfgan_cli.screen import complete
from srfgan_cli.screen.options import Json, Set

if TYPE_CHECKING:
    from srfgan_cli.presets.config import Config
    from srfgan_cli.presets.facts import Scores
    from srfgan_cli.presets.listing import Listed

app = typer.Typer(help="List, show, copy and compare presets.", no_args_is_help=True, add_completion=False)

PresetArgument = Annotated[
    str,
    typer.Argument(
        help="Preset name, or your own YAML file.", metavar="NAME", autocompletion=complete.presets
    ),
]


@app.command("list")
def list_(
    table: Annotated[str | None, typer.Option("--table", help="Only rows of this table, as table1.")] = None,
    json_: Json = False,
) -> None:
    """All presets by table, with the papers' box and mask AP."""
    from srfgan_cli.presets.facts import load_tables
    from srfgan_cli.presets.listing import listed
    from srfgan_cli.screen.console import print_json, stdout, styled

    tables = listed()
    if table is not None and table not in load_tables():
        raise InputError(f"There is no table '{table}'. Tables: {', '.join(load_tables())}.")
    chosen = tables if table is None else {table: tables[table]}
    if json_:
        print_json([_as_json(one) for presets in chosen.values() for one in presets])
        return
    longest = max(len(one.preset) for presets in tables.values() for one in presets)
    for name, presets in chosen.items():
        head, *lines = _aligned(
            [("preset".ljust(longest), "box", "mask", "what"), *map(_cells, presets)], stdout.width
        )
        title = load_tables()[name].title if name else "no row of a table"
        stdout.print(styled((title, "bold"), "\n", (head, "dim"), "\n", "\n".join(lines), "\n"))


@app.command()
def show(
    name: PresetArgument,
    set_: Set = None,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory",
            help="Instead: GiB of a GPU that each stage and inference need, for every number of images.",
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """A preset, fully resolved, as YAML; above it its table rows, command, size, arithmetic and schedule."""
    from srfgan_cli.presets.digest import summary, summary_lines
    from srfgan_cli.presets.library import dump_yaml, load_preset
    from srfgan_cli.runs.published import describe_published
    from srfgan_cli.screen.console import print_json, stdout

    config = load_preset(name, set_ or [])
    if memory:
        _show_memory(config, json_)
        return
    if json_:
        print_json(summary(config))
        return
    said = summary_lines(config, name, set_ or [])
    for line in (*said, f"published weights: {describe_published(config)}"):
        stdout.print("\n".join(f"# {part}" for part in line.splitlines()))
    stdout.print(dump_yaml(config, stdout.encoding), end="")


@app.command()
def copy(
    name: PresetArgument,
    file: Annotated[Path, typer.Argument(help="The YAML file to write.", metavar="FILE")],
) -> None:
    """Write a preset as a YAML file of its own, with every value, to change it and use it by its path."""
    from srfgan_cli.presets.describe import document, run_command
    from srfgan_cli.presets.library import load_preset
    from srfgan_cli.screen.console import stdout

    if file.suffix not in (".yaml", ".yml"):
        raise InputError(f"{file}: a preset file ends in .yaml.")
    if file.exists():
        raise InputError(f"{file} exists already; choose another name.")
    config = load_preset(name)
    text = document(config, str(file))
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot write {file}: {error.strerror}.") from None
    stdout.print(f"{file} written. Use it: {run_command(config, str(file))}")


@app.command()
def diff(first: PresetArgument, second: PresetArgument) -> None:
    """The keys in which two presets differ."""
    from rich.table import Table

    from srfgan_cli.presets.library import flatten, load_preset
    from srfgan_cli.screen.console import stdout

    a, b = flatten(load_preset(first)), flatten(load_preset(second))
    keys = [key for key in a | b if a.get(key) != b.get(key) and key != "name"]
    shown = Table("key", first, second, box=None, header_style="bold", pad_edge=False)
    for key in keys:
        shown.add_row(key, str(a.get(key, "")), str(b.get(key, "")))
    stdout.print(shown if keys else "No difference.")


def _show_memory(config: Config, as_json: bool) -> None:
    from rich.table import Table

    from srfgan_cli.screen.console import print_json, stdout
    from srfgan_cli.screen.progress import progress_bar
    from srfgan_cli.training.memory import inference_size, memory_of, questions, training_size

    sizes = training_size(config), inference_size(config)
    with progress_bar() as progress:
        needs = list(progress.track(memory_of(config), len(questions(config)), description="memory"))
    if as_json:
        print_json({"image": sizes[0], "test_image": sizes[1], "memory": [need.as_json() for need in needs]})
        return
    columns = ("stage", "precision", "window", "fixed", "1 image", "each more", "batch")
    shown = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for need in needs:
        batch = 1 if need.stage == "inference" else getattr(config, need.stage).solver.batch_size
        numbers = (f"{gib:.2f}" for gib in (need.fixed, need.first, need.further, need.of(batch)))
        *before, whole = numbers
        shown.add_row(need.stage, need.precision, str(need.window or ""), *before, f"{batch}: {whole}")
    (height, width), (test_height, test_width) = sizes
    stdout.print(
        f"GiB of one GPU, at images of {height}x{width}, in inference {test_height}x{test_width}, with as many boxes "
        "as the config allows; cuDNN takes some tenths more. bf16 is fp16's too. accumulate divides the batch.",
        shown,
        sep="\n",
    )


def _as_json(one: Listed) -> dict[str, Any]:
    row = one.row
    return {
        "preset": one.preset,
        "table": row.table if row else "",
        "box": row.box.AP if row else None,
        "mask": row.mask.AP if row and row.mask else None,
        "description": one.what,
        "reference": row.as_json() if row else {},
    }


def _cells(one: Listed) -> tuple[str, str, str, str]:
    row = one.row
    return one.preset, _number(row.box) if row else "", _number(row.mask) if row else "", one.what


def _aligned(rows: Sequence[tuple[str, ...]], columns: int) -> Iterator[str]:
    """Rows as lines, the last cell wrapped at so many columns; rich's tables take a tenth of a second for the list."""
    widths = [max(map(len, cells)) + 2 for cells in zip(*rows, strict=True)][:-1]
    indent = sum(widths)
    for *cells, last in rows:
        before = "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield from textwrap.wrap(
            last,
            max(columns, indent + 20),
            initial_indent=before,
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )


def _number(scores: Scores | None) -> str:
    """The AP; where a document gives it for sizes of objects only, that of small ones."""
    if scores is None or (scores.AP is None and scores.APs is None):
        return ""
    return f"{scores.AP:.1f}" if scores.AP is not None else f"APs {scores.APs:.1f}"
