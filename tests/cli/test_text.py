"""Text is text: whatever a name, a path or a message holds is printed as it is, or by escapes where it would act."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Group
from rich.table import Table

from srfgan_cli.screen.console import BROKEN_PIPE, TextConsole, print_json, print_path, styled, visible
from srfgan_cli.screen.progress import progress_bar

SHOWN_AS_THEY_ARE = [
    "[red]x",
    "[/b]",
    "[link=a]",
    ":smile:",
    "é ü µ Ж 猫",
    "a\\nb",
    "%s {0} {task}",
    "a" * 300,
]
SHOWN_BY_ESCAPES = {
    "\x1b]0;owned\x07": r"\x1b]0;owned\x07",
    "a\r\tb\x08": r"a\r\tb\x08",
    "\x9b31m": r"\x9b31m",
    "caf\udce9.png": r"caf\udce9.png",
    "\u202egnp.exe": r"\u202egnp.exe",
}
TEXTS = [*SHOWN_AS_THEY_ARE, *SHOWN_BY_ESCAPES]


class Stream(io.TextIOWrapper):
    """What a program writes to, in an encoding, with or without a terminal behind it."""

    def __init__(self, encoding="utf-8", terminal=False):
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.terminal = terminal

    def isatty(self):
        return self.terminal

    @property
    def written(self):
        return self.buffer.getvalue().decode(self.encoding)


def everywhere(text):
    """The text in every place that a command may print it in."""
    table = Table(text)
    table.add_row(text)
    return text, styled((text, "bold"), " after"), Group(table, text)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(("encoding", "terminal"), [("utf-8", False), ("ascii", False), ("utf-8", True)])
def test_a_text_is_shown_as_it_is_wherever_it_stands(text, encoding, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000" if terminal else "20")  # only a terminal has a width
    for place in everywhere(text):
        monkeypatch.setattr(sys, "stdout", stream := Stream(encoding, terminal))
        TextConsole(stderr=False).print(place)
        shown = visible(SHOWN_BY_ESCAPES.get(text, text), encoding)
        assert shown in stream.written.replace("\n" if terminal else "", ""), place
        assert not {"\x1b]", "\x07", "\x08", "\r", "\t", "\x9b"} & {*stream.written, stream.written[:2]}


@pytest.mark.parametrize("text", TEXTS)
def test_so_it_is_on_a_progress_bar(text, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := Stream())
    with progress_bar() as bar:
        bar.add_task(f"reading {text}", total=1)
    assert f"reading {SHOWN_BY_ESCAPES.get(text, text)}" in stream.written


@pytest.mark.parametrize("text", TEXTS)
def test_programs_get_exact_paths_and_json(text, monkeypatch, tmp_path):
    path = tmp_path / text
    monkeypatch.setattr(sys, "stdout", stream := Stream("ascii"))
    print_path(path)
    print_json({"file": str(path)})
    exact, document, _ = stream.buffer.getvalue().split(b"\n")
    assert Path(os.fsdecode(exact)) == path
    assert json.loads(document) == {"file": str(path)} and document.isascii()
    monkeypatch.setattr(sys, "stdout", stream := Stream(terminal=True))
    print_path(path)
    assert not {"\x1b", "\x07", "\x9b"} & set(stream.written)


@pytest.mark.parametrize("text", [text for text in TEXTS if len(text) < 100])
def test_commands_print_paths_presets_and_errors_as_they_are(text, srfgan, tmp_path):
    shown = SHOWN_BY_ESCAPES.get(text, text)
    unknown = srfgan("finetune", "--preset", text)
    assert unknown.code == 2 and f"Unknown preset '{shown}'." in unknown.err
    usage = srfgan("presets", "show", "demo", text)
    assert (
        usage.code == 2
        and "presets show --help` shows" in usage.err
        and not set("\x1b\x07\r") & set(usage.err)
    )
    folder = tmp_path / text
    folder.mkdir(parents=True)
    copied = srfgan("presets", "copy", "demo", folder / "own.yaml")
    assert copied.code == 0 and f"{shown}/own.yaml written." in copied.out
    plan = srfgan("finetune", "--preset", folder / "own.yaml", "--output-dir", folder, "--dry-run")
    if "\udce9" in text:
        assert plan.code == 2 and "is not UTF-8" in plan.err and shown in plan.err
    else:
        assert plan.code == 0 and f"output_dir  {tmp_path}/{shown}\n" in plan.out
    again = srfgan("presets", "copy", "demo", folder / "own.yaml")
    assert again.code == 2 and f"{shown}/own.yaml exists already" in again.err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_preset_printed_in_any_encoding_is_the_preset(encoding, srfgan, tmp_path, monkeypatch):
    from srfgan_cli.presets import load_preset

    own = tmp_path / "own.yaml"
    own.write_text(json.dumps({"base": "demo", "description": "[/b] é 猫 \x1b[31m \u202e\nseed: 1"}))
    monkeypatch.setattr(sys, "stdout", stream := Stream(encoding))
    srfgan("presets", "show", own)
    (tmp_path / "own2.yaml").write_text(f"{stream.written}", encoding="utf-8")
    assert load_preset(tmp_path / "own2.yaml") == load_preset(own)


@pytest.mark.parametrize(
    "arguments",
    [
        *("presets list --table table5", "presets list --table table5 --json"),
        *("finetune --help", "--help", "--version", "data"),
    ],
)
def test_a_reader_that_has_gone_ends_the_command_quietly(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-P", "-m", "srfgan_cli", *arguments.split()]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, b"")


def test_messages_that_nobody_reads_stop_no_run(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    console = TextConsole(stderr=True)
    with os.fdopen(write, "w", buffering=1) as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        for _ in range(3):
            console.print("still training")
