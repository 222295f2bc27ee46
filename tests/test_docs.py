"""README and the site say what is so: their Python runs, their commands are commands, and no link is broken.

Run as a program (`make readme`), this writes the table of upsamplers, and the list of presets.
"""

import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
import yaml
from torchvision.transforms.v2.functional import to_pil_image
from typer.main import get_command

from srfgan.models.config import DETECTORS, BackboneName, NeckName
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan_cli.data.shapes import example_image
from srfgan_cli.main import app
from srfgan_cli.presets import list_presets, load_preset
from srfgan_cli.presets.describe import describe
from srfgan_cli.presets.library import flatten
from srfgan_cli.presets.listing import LIST
from srfgan_cli.presets.tables import load_tables, shipped

ROOT = Path(__file__).parents[1]
README, PRESETS = ROOT / "README.md", ROOT / "docs" / "presets.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
WHAT_EXISTS = {
    "detectors": list(DETECTORS),
    "necks": get_args(NeckName),
    "backbones": get_args(BackboneName),
    "tables": tuple(load_tables()),
}
MADE = re.compile(r"(?<=<!-- upsamplers, by `make readme` -->\n).*?(?=<!-- end -->)", re.DOTALL)
BLOCKS = {
    f"{page.stem}-{number}": code
    for page in PAGES
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )
}
LIST_HEAD = """\
# What `srfgan presets list` says of each preset, not a preset: the rows that it reproduces, and what it is in one line.
# `make readme` has written this.
"""
EXPORTED = re.compile(r"detector\.(onnx|pt2)")

STRICT = """
import warnings

warnings.filterwarnings("error", category=DeprecationWarning, module="srfgan")
"""


def commands(page):
    """Every line of a page's blocks, and every piece of code in a line, that runs `srfgan`."""
    text = page.read_text("utf-8")
    lines = re.findall(r"^ {4}(srfgan .*)$", text, re.MULTILINE)
    return [line for line in [*lines, *re.findall(r"`(srfgan [a-z][^`]*)`", text)] if "|" not in line]


def test_there_are_examples():
    assert len(BLOCKS) >= 5 and sum(len(commands(page)) for page in PAGES) > 50


@pytest.mark.parametrize("what", WHAT_EXISTS)
def test_the_table_names_all_that_exists(what):
    (cells,) = re.findall(rf"^\| {what} \|(.*)\|$", PRESETS.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", cells)) == set(WHAT_EXISTS[what])


def test_readme_names_all_upsamplers():
    (cells,) = re.findall(r"^\| upsamplers \|(.*)\|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"`(\w+)`", cells) == list(UPSAMPLERS)


def table_of_upsamplers():
    """The names, and what their classes say of themselves in one line."""
    lines = ["| upsampler | |", "|---|---|"]
    for name, made_by in UPSAMPLERS.items():
        module, kind = made_by.split(":")
        made = getattr(import_module(f"srfgan.models.upsamplers.{module}"), kind)
        guided = ", guided" if getattr(made, "guided", False) else ""
        lines.append(f"| `{name}`{guided} | {made.__doc__.splitlines()[0]} |")
    return "\n".join([*lines, ""])


def test_the_table_of_upsamplers_is_the_codes():
    assert MADE.findall(PRESETS.read_text(encoding="utf-8")) == [table_of_upsamplers()], "run make readme"


def list_of_presets():
    """What `srfgan presets list` reads."""
    presets = {name: {"rows": one.rows, "what": describe(one)} for name, one in shipped().items()}
    return LIST_HEAD + yaml.safe_dump(presets, default_flow_style=None, width=10_000)


def test_the_list_says_what_the_presets_are():
    assert LIST.read_text("utf-8") == list_of_presets(), "run make readme"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_commands(page):
    """Each names a command that there is, with options and choices that it has, and a preset that is shipped."""
    root = get_command(app)
    for line in commands(page):
        _, *arguments = shlex.split(line, comments=True)
        try:
            command, parents = root, []
            while arguments and arguments[0] in getattr(command, "list_commands", lambda _: [])(None):
                parents.append(command)
                command = command.get_command(None, arguments.pop(0))
            if not arguments:
                continue  # only named
            context = command.make_context("srfgan", arguments, resilient_parsing=False)
        except Exception as error:
            pytest.fail(f"{page.name}: {line}: {error}")
        preset = context.params.get("preset")
        known = preset is None or str(preset) in list_presets() or str(preset).isupper() or "." in str(preset)
        assert known, f"{page.name}: {line}: no preset {preset}"


@pytest.mark.command
@pytest.mark.parametrize("name", [name for name, code in BLOCKS.items() if not EXPORTED.search(code)])
def test_python_example_runs(name, tmp_path):
    """In a process and a folder of its own, as a reader would run it who has trained a detector."""
    from trained_runs import save_run  # not where this runs as a program

    save_run(tmp_path / "runs" / "finetune" / "mask_rcnn_r18_fpn")
    _run_as_shown(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, code in BLOCKS.items() if EXPORTED.search(code)])
def test_an_exported_file_is_run_as_shown(name, srfgan, tmp_path):
    from trained_runs import save_run

    for package in re.findall(r"^import (openvino|nncf)", BLOCKS[name], re.MULTILINE):
        pytest.importorskip(package)
    run, suffix = save_run(tmp_path / "run"), EXPORTED.search(BLOCKS[name])[1]
    written = ("--format", suffix, "--output", f"detector.{suffix}")
    made = srfgan("export", "--weights", run / "model.pt", *written)
    assert made.code == 0, made.err
    _run_as_shown(name, tmp_path)


def _run_as_shown(name, folder):
    from forked import start

    for image in ("a.jpg", "b.jpg"):
        to_pil_image(example_image(96)).save(folder / image)
    ended, said = start(f"{STRICT}\n{BLOCKS[name]}", None, folder).ended()
    assert ended == 0, said


def test_every_page_is_in_the_sites_menu_and_the_site_builds(tmp_path):
    """Strictly: broken links, missing anchors, unknown names of the code and pages that nothing leads to are errors."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    nav = yaml.safe_dump(yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader=yaml.SafeLoader)["nav"])
    for page in re.findall(r"[\w/]+\.md", nav):
        place = page.removesuffix(".md").removesuffix("index")
        assert (tmp_path / "site" / place / "index.html").is_file(), page
    config = (tmp_path / "site/reference/config/index.html").read_text("utf-8")
    keys = flatten(load_preset("mask_rcnn_r50_fpn"))
    assert [key for key in keys if f"<code>{key}</code>" not in config] == []
    assert "--max-restarts" in (tmp_path / "site/reference/cli/index.html").read_text("utf-8")
    assert not re.search(
        r'(src|href)="https?://(?!squidfunk)', (tmp_path / "site/index.html").read_text("utf-8")
    )


if __name__ == "__main__":
    LIST.write_text(list_of_presets(), "utf-8")
    PRESETS.write_text(MADE.sub(lambda _: table_of_upsamplers(), PRESETS.read_text("utf-8")), "utf-8")
