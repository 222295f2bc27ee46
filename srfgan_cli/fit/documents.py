"""What a finished fit leaves: index.html, summary.json, and a table on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

from rich.table import Table

from srfgan_cli.analysis.compared import COLOURS, direction, interval
from srfgan_cli.fit.numbers import price, summarize
from srfgan_cli.fit.page import page_values
from srfgan_cli.fit.record import SUMMARY, let_go
from srfgan_cli.fit.run_fit import Fitted
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.screen.console import styled
from srfgan_cli.screen.pages import signed

TEMPLATE = Path(__file__).with_name("page.html")


def write_report(fitted: Fitted, output_dir: Path) -> Path:
    """Write index.html and summary.json, and remove the fit that this one replaces; returns the page.

    Raises:
        InputError: the folder cannot be written.
    """
    frame = Template(TEMPLATE.read_text(encoding="utf-8"))
    page = output_dir / "index.html"
    _write(page, frame.substitute(page_values(fitted)))
    _write(output_dir / SUMMARY, json.dumps(summarize(fitted), indent=2) + "\n")
    let_go(output_dir)
    return page


def comparison_table(fitted: Fitted) -> Table:
    """The two detectors' AP, their difference, and what one image costs them."""
    table = Table(title=f"{fitted.data}, validation split")
    table.add_column("top-down path")
    for task in fitted.tasks:
        table.add_column(f"{task} AP", justify="right")
    for unit in ("M parameters", "GMAC", "ms"):
        table.add_column(unit, justify="right")
    for which, name in (("plain", "nearest neighbour"), ("method", f"generator ({fitted.method})")):
        cost, scores = fitted.costs[which], fitted.scores[which]
        aps = [_number(scores[task].get("AP")) for task in fitted.tasks]
        table.add_row(name, *aps, f"{cost.parameters / 1e6:.1f}", f"{cost.gmacs:.1f}", f"{cost.ms:.0f}")
    changes = [fitted.changes[task]["AP"] for task in fitted.tasks]
    table.add_row(
        "gain, and price as a ratio",
        *(
            "-" if change is None else styled((signed(change.value), COLOURS[direction(change)]))
            for change in changes
        ),
        *("-" if ratio is None else f"{ratio:.2f}" for ratio in price(fitted).values()),
    )
    table.add_row(
        "95 % over the images",
        *("-" if change is None else interval(change) for change in changes),
        style="dim",
    )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))
