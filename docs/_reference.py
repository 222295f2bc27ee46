"""The site's pages that are made from the code: command line, config, and the rows' presets. A hook of mkdocs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click
from typer.main import get_command

from srfgan_cli.main import app, register
from srfgan_cli.presets.describe import describe
from srfgan_cli.presets.facts import Scores, load_tables
from srfgan_cli.presets.tables import entries_by_table


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that lie in `docs/`."""
    sys.path.insert(0, str(Path(__file__).parent))
    from _config import config_page

    for name, text in (("cli", command_line()), ("config", config_page()), ("rows", rows())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def command_line() -> str:
    """Every command and option, as `--help` tells them."""
    from typer._click import Context  # typer's own click

    register()
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="srfgan")
    shown = re.sub(r"<(backbone|preset|stage|table)>", r"&lt;\1&gt;", text)
    return shown.replace("# `srfgan`", "# Command line", 1)


def rows() -> str:
    """Every row of the papers' tables, its preset and its numbers."""
    return "\n".join(_row_lines())


def _row_lines() -> Iterator[str]:
    yield "# The papers' rows\n"
    yield "Box and mask AP as printed. `srfgan presets show NAME` tells a recipe, `srfgan reproduce TABLE` runs them.\n"
    tables = load_tables()
    for name, entries in entries_by_table().items():
        yield f"## {name}\n"
        yield f"{tables[name].about}\n"
        yield "| preset | box | mask | what |"
        yield "|---|--:|--:|---|"
        for entry in entries:
            row = entry.reference
            yield f"| `{entry.preset}` | {_ap(row.box)} | {_ap(row.mask)} | {describe(entry.config)} |"
        yield ""


def _ap(scores: Scores | None) -> str:
    return "" if scores is None or scores.AP is None else f"{scores.AP:.1f}"
