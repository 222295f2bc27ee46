"""The site's pages that are made from the code: the command line, and every config key. A hook of mkdocs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click
from typer.main import get_command

from srfgan_cli.main import app


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that lie in `docs/`."""
    sys.path.insert(0, str(Path(__file__).parent))
    from _config import config_page

    for name, text in (("cli", command_line()), ("config", config_page())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def command_line() -> str:
    """Every command and option, as `--help` tells them."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=command.context_class(command), name="srfgan")
    shown = re.sub(r"<(backbone|preset|stage|table)>", r"&lt;\1&gt;", text)
    return shown.replace("# `srfgan`", "# Command line", 1)
