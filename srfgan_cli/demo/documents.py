"""What a finished demo leaves: index.html, summary.json, and a table on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

from rich.table import Table

from srfgan_cli.demo.numbers import summarize
from srfgan_cli.demo.page import page_values
from srfgan_cli.demo.run_demo import SUMMARY, Outcome
from srfgan_cli.machine.files import write_atomically

TEMPLATE = Path(__file__).with_name("page.html")


def write_report(outcome: Outcome, output_dir: Path) -> Path:
    """Write index.html and then summary.json, which marks the demo as finished; returns the page.

    Raises:
        InputError: the folder cannot be written.
    """
    summary = summarize(outcome)
    frame = Template(TEMPLATE.read_text(encoding="utf-8"))
    page = output_dir / "index.html"
    _write(page, frame.substitute(page_values(outcome, summary)))
    _write(output_dir / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return page


def comparison_table(outcome: Outcome) -> Table:
    """The two detectors' AP and their difference."""
    table = Table(title="shapes, validation split")
    table.add_column("top-down path")
    table.add_column("box AP", justify="right")
    table.add_column("mask AP", justify="right")
    plain, method = (
        [outcome.scores(step)[task]["AP"] or 0.0 for task in ("box", "mask")]
        for step in ("baseline", "finetune")
    )
    table.add_row("nearest neighbour", *(f"{value:.1f}" for value in plain))
    table.add_row("generator (srf)", *(f"{value:.1f}" for value in method))
    table.add_row("difference", *(f"{b - a:+.1f}" for a, b in zip(plain, method, strict=True)), style="dim")
    return table


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))
