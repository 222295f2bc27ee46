"""`srfgan reproduce`: every row of a table, with the runs they share, and a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srfgan_cli.screen.options import (
    BatchSize,
    DataRoot,
    Dataset,
    Devices,
    DryRun,
    JobLauncher,
    Json,
    Precision,
    Scale,
    Set,
    TrainImages,
    TrainJson,
    Unlabeled,
    ValImages,
    ValJson,
    data_overrides,
    recipe_overrides,
    utf8_path,
)

if TYPE_CHECKING:
    from srfgan_cli.reproduction.graph import Graph, Settings
    from srfgan_cli.reproduction.jobs import Machine


def _tables(incomplete: str) -> list[str]:
    """What Tab offers."""
    from srfgan_cli.presets.facts import load_tables

    return [name for name in load_tables() if name.startswith(incomplete)]


TableArgument = Annotated[
    str,
    typer.Argument(
        help="As table1, upsamplers or srfgan_repository.", metavar="TABLE", autocompletion=_tables
    ),
]
Seeds = Annotated[
    int,
    typer.Option(
        "--seeds",
        min=1,
        max=1000,
        help="Runs of each row; the first has seed 0, or N by --set seed=N.",
        rich_help_panel="Schedule",
    ),
]
Evaluations = Annotated[
    int, typer.Option("--evaluations", min=1, help="Scores during a last stage.", rich_help_panel="Schedule")
]
Rows = Annotated[
    str | None,
    typer.Option("--rows", help="Only these presets, with commas.", metavar="A,B", rich_help_panel="Recipe"),
]
Overlay = Annotated[
    str | None,
    typer.Option(
        "--overlay",
        help="A preset or YAML file laid over every row, as `small` for a CPU.",
        metavar="NAME",
        rich_help_panel="Recipe",
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="Runs at a time; the devices are dealt out among them.",
        rich_help_panel="Machine",
    ),
]
Merge = Annotated[
    list[Path] | None,
    typer.Option(
        "--merge",
        help="Run nothing, and report the runs of this --output-dir with others'. Repeatable.",
        metavar="DIR",
        rich_help_panel="Output",
    ),
]
OutputDir = Annotated[
    Path,
    typer.Option(
        "--output-dir",
        help="Where runs and reports go.",
        metavar="DIR",
        callback=utf8_path,
        rich_help_panel="Output",
    ),
]

OF_MERGE = ("table", "rows", "merge", "output_dir", "json")
"""What --merge goes with."""


def reproduce(
    ctx: typer.Context,
    table: TableArgument,
    rows: Rows = None,
    overlay: Overlay = None,
    set_: Set = None,
    data_root: DataRoot = None,
    train_json: TrainJson = None,
    train_images: TrainImages = None,
    val_json: ValJson = None,
    val_images: ValImages = None,
    dataset: Dataset = None,
    unlabeled: Unlabeled = None,
    scale: Scale = 1.0,
    seeds: Seeds = 1,
    evaluations: Evaluations = 5,
    batch_size: BatchSize = None,
    devices: Devices = "auto",
    launcher: JobLauncher = "auto",
    jobs: Jobs = 1,
    precision: Precision = None,
    merge: Merge = None,
    output_dir: OutputDir = Path("runs/reproduce"),
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Run every row of a table, each shared stage once, and write a report. The same command continues."""
    from srfgan_cli.presets import load_preset
    from srfgan_cli.reproduction.graph import Settings, build_graph
    from srfgan_cli.reproduction.identity import data_identity, folder_identity
    from srfgan_cli.reproduction.jobs import Machine, job_folder
    from srfgan_cli.reproduction.rows import table_rows
    from srfgan_cli.reproduction.slots import deal_out

    only = [name.strip() for name in rows.strip(",").split(",")] if rows else []
    if merge:
        _check_alone(ctx)
        _merge(table, merge, only, output_dir, json)
        return
    wanted = table_rows(table, only)
    where = data_overrides(data_root, dataset, train=(train_json, train_images), val=(val_json, val_images))
    overrides = (*where, *recipe_overrides(batch_size, precision), *(set_ or []))
    config = load_preset(wanted[0].preset, overrides, overlay)
    data = config.data
    _tell_of_evaluations(config.finetune.solver.evaluate_every, evaluations)
    settings = Settings(
        scale,
        seeds,
        evaluations,
        overlay,
        overrides,
        data=data_identity(data, data_root),
        unlabeled=folder_identity(unlabeled) if unlabeled else "",
    )
    graph = build_graph(wanted, settings, lambda key: job_folder(output_dir, key).began)
    machine = Machine.asked_for(data_root, unlabeled, devices, launcher)
    machines = deal_out(machine, jobs)
    if dry_run:
        from srfgan_cli.reproduction.dry_run import show_planned
        from srfgan_cli.reproduction.run_jobs import job_folders

        show_planned(graph, job_folders(graph, output_dir), machine, as_json=json)
        return
    _run(table, graph, settings, machine, machines, output_dir, json)


def _tell_of_evaluations(every: int, evaluations: int) -> None:
    """Say so where an interval of evaluations, as `patience` wants one, gives way to their number."""
    from srfgan_cli.screen.console import stderr

    if every and evaluations > 1:
        stderr.print(
            f"finetune.solver.evaluate_every {every} is not used: --evaluations has {evaluations} in each last stage, "
            "evenly spaced. --evaluations 1 leaves it to evaluate_every.",
            soft_wrap=True,
        )


def _check_alone(ctx: typer.Context) -> None:
    """Whether nothing is said with --merge that only runs are told.

    Raises:
        InputError: an option is.
    """
    from srfgan.models.errors import InputError

    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if source and source.name == "COMMANDLINE" and parameter.name not in OF_MERGE:
            raise InputError(
                f"--merge runs nothing, and {parameter.opts[0]} is for runs. It goes with --rows, --output-dir and "
                "--json."
            )


def _merge(table: str, folders: list[Path], only: list[str], output_dir: Path, json: bool) -> None:
    from srfgan_cli.reproduction.merge import merge_runs
    from srfgan_cli.reproduction.merged_report import report_merged
    from srfgan_cli.screen.console import print_json, print_path

    page, summary = report_merged(table, merge_runs(table, folders, only), output_dir, _command())
    if json:
        print_json(summary)
    else:
        print_path(page)


def _run(
    table: str,
    graph: Graph,
    settings: Settings,
    machine: Machine,
    machines: list[Machine],
    output_dir: Path,
    json: bool,
) -> None:
    from srfgan_cli.machine.devices import parse_devices
    from srfgan_cli.machine.launcher import INTERRUPTED
    from srfgan_cli.reproduction.places import write_plan
    from srfgan_cli.reproduction.report_table import report_table
    from srfgan_cli.reproduction.run_jobs import Stopped, job_folders, run_jobs
    from srfgan_cli.screen.console import print_json, print_path, stderr

    device = parse_devices(machine.devices).described()

    def begin() -> None:
        write_plan(table, graph, settings, output_dir, device=device, at_a_time=len(machines))

    try:
        outcome = run_jobs(graph, job_folders(graph, output_dir), output_dir, machines, begin)
    except Stopped:
        stderr.print("Interrupted; everything is kept. The same command continues.")
        raise typer.Exit(INTERRUPTED) from None
    page, summary = report_table(
        table, graph, settings, machine, len(machines), output_dir, outcome, _command()
    )
    if json:
        print_json(summary)
    else:
        print_path(page)
    if outcome.failed:
        stderr.print(f"{len(outcome.failed)} run(s) failed; the same command tries them again.")
        raise typer.Exit(1)


def _command() -> str:
    return shlex.join(["srfgan", *sys.argv[1:]])
