"""The `srfgan` command: every sub-command is a thin module in `srfgan_cli.commands`.

A command's module is imported when the command is looked up, and torch when it runs: `srfgan --version`, `--help` and
Tab answer at once.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from srfgan_cli import __version__

OTHERS_TURN = 3
"""Seconds that a process of several leaves the main one to say what went wrong."""

_WINDOWS = (
    "srfgan: the commands need a Unix system, whose locks and signals keep runs whole. On Windows: WSL 2."
)

_ClickError: Any = typer.BadParameter.__mro__[2]
"""click's exception for a wrong command line; which click typer brings depends on typer's version."""

COMMANDS = {
    "pretrain": "train.pretrain",
    "extract": "train.extract",
    "finetune": "train.finetune",
    "eval": "evaluate.evaluate",
    "predict": "predict.predict",
    "visualize": "visualize.visualize",
    "export": "export.export",
    "fit": "fit.fit",
    "demo": "fit.demo",
    "reproduce": "reproduce.reproduce",
    "presets": "presets.app",
    "data": "data.app",
}
"""The module and the function, or group of commands, of each, in the order of `--help`."""


class _Commands(TyperGroup):
    """Imports those commands that are looked up: all of them take as long as typer itself."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # Of a name that there is not, typer names similar ones of `commands`.
        for name in [cmd_name] if cmd_name in COMMANDS else COMMANDS:
            if name not in self.commands:
                self.add_command(_command(name), name)
        return super().get_command(ctx, cmd_name)


def _command(name: str) -> Any:
    module, attribute = COMMANDS[name].split(".")
    found = getattr(import_module(f"srfgan_cli.commands.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(rich_markup_mode="rich", add_completion=False)
        found.command(name)(function)
    command = get_command(found)
    command.name = name
    return command


app = typer.Typer(
    name="srfgan",
    cls=_Commands,
    help="Detectors whose feature pyramid upsamples with an adversarially trained generator (SRF-GAN, AFI-GAN).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"srfgan {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: bool = typer.Option(False, "--debug", help="Show Python's traceback when something goes wrong."),
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Options before the command."""
    if debug:
        os.environ["SRFGAN_DEBUG"] = "1"


def run() -> None:
    """Entry point: one message and an exit code instead of a traceback.

    Exit codes: 0 done, 1 failed while running, 2 bad usage, config or data, 130 interrupted, 141 nobody reads stdout.
    """
    if sys.platform == "win32":
        print(_WINDOWS, file=sys.stderr)
        sys.exit(2)
    _open_what_is_closed()
    from srfgan_cli.machine.interrupt import end_on_signals

    end_on_signals()
    from srfgan.models.errors import InputError

    code = 0
    try:
        _check_named(sys.argv[1:])
        code = app(standalone_mode=False) or 0
        _end_output()
    except _ClickError as error:
        if not error.format_message():
            sys.exit(2)  # no arguments: the help has been shown
        _fail(InputError(_usage(error)), 2)
    except InputError as error:
        _fail(error, 2)
    except KeyboardInterrupt as error:
        _fail(error, 130)
    except SystemExit as ended:
        # So rich and typer end where nobody reads the help, or the version, that they print.
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        from srfgan_cli.screen.console import BROKEN_PIPE

        code = BROKEN_PIPE
    except Exception as error:
        from srfgan_cli.screen.failures import as_input_error

        if isinstance(error, OSError) and error.filename is None:
            from srfgan_cli.screen.console import abandon_output

            abandon_output()  # which may be what cannot be written
        told = as_input_error(error)
        _fail(told or error, 2 if told else 1)
    sys.exit(code)


def _open_what_is_closed() -> None:
    """A stream that the caller has closed, as by `2>&-`, goes nowhere.

    The next file to be opened would get its number else, and with it whatever a library prints there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - as long as the process


def _check_named(arguments: Sequence[str]) -> None:
    """Whether every argument says something: as a path, nothing would be the current folder.

    Raises:
        InputError: one is empty, as of a shell variable that is not set.
    """
    from srfgan.models.errors import InputError

    for before, text in pairwise(["", *arguments]):
        if not text or re.fullmatch("--[a-z-]+=", text):
            option = text.rstrip("=") or (before if before.startswith("-") else "")
            wrong = f"{option} is followed by nothing" if option else "An argument is empty"
            raise InputError(
                f"{wrong}, as where a shell variable is not set. Name what is meant; the current folder is '.'."
            )


def _end_output() -> None:
    """Hand the rest of stdout over; quietly end if its reader has gone."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        from srfgan_cli.screen.console import stdout  # brings rich, without which the version is said

        stdout.on_broken_pipe()


def _usage(error: Any) -> str:
    """What is wrong with a command line, and where its options are explained."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "srfgan"
    return f"{error.format_message()}\n`{command} --help` shows what it takes."


def _fail(error: BaseException, code: int) -> NoReturn:
    if os.environ.get("SRFGAN_DEBUG"):
        raise error
    from srfgan_cli.machine.interrupt import let_signals_end

    let_signals_end()  # a launcher's, while this process still says why it ends
    from srfgan_cli.screen.console import stderr, styled

    rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    if rank.isdecimal() and int(rank):
        # Mostly all processes fail alike; the launcher then ends this one before it repeats the message.
        time.sleep(OTHERS_TURN)
        stderr.print(f"On process {rank}:")
    if code == 2:
        stderr.print(styled(("Error:", "red bold"), f" {error}"))
    elif code != 130:  # that has been said
        stderr.print(styled(("Failed:", "red bold"), f" {type(error).__name__}: {error}"))
        stderr.print("`srfgan --debug ...` shows where.")
    if size.isdecimal() and int(size) > 1:
        sys.stderr.flush()
        os._exit(code)  # an orderly end would wait for processes that wait for this one
    sys.exit(code)
