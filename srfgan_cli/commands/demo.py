"""`srfgan demo`: the whole method on the built-in data, in minutes, with a page that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srfgan_cli.screen.options import Devices, Overwrite, Seed, utf8_path

OutputDir = Annotated[
    Path,
    typer.Option(
        "--output-dir",
        help="Where everything goes.",
        metavar="DIR",
        callback=utf8_path,
        rich_help_panel="Output",
    ),
]


def demo(
    output_dir: OutputDir = Path("srfgan-demo"),
    seed: Seed = None,
    devices: Devices = "auto",
    overwrite: Overwrite = False,
) -> None:
    """The whole method in minutes on a CPU: train a baseline and the three stages, compare, and show a page."""
    from srfgan_cli.demo.documents import comparison_table, write_report
    from srfgan_cli.demo.run_demo import one_device, run_demo
    from srfgan_cli.machine.interrupt import Interrupted
    from srfgan_cli.machine.launcher import INTERRUPTED
    from srfgan_cli.screen.console import print_path, stderr

    try:
        outcome = run_demo(output_dir, one_device(devices), seed=seed, overwrite=overwrite)
    except Interrupted:
        stderr.print("Interrupted. The same command starts the demo over.")
        raise typer.Exit(INTERRUPTED) from None
    page = write_report(outcome, output_dir)
    stderr.print(comparison_table(outcome))
    print_path(page)
