"""Processes of their own without a start-up of their own: forks of one that has done the imports.

A new interpreter takes seconds to import torch, torchvision and timm; these are there in milliseconds. What they
print goes to a file, and they have no threads, locks or state of the tests' process.
"""

import multiprocessing
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

HANGS = 600.0
"""Seconds after which a process is taken to hang: far more than any needs."""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["srfgan_cli.training.train_stage", "srfgan_cli.evaluation.evaluate_preset"])

COMMAND = """
import sys
from srfgan_cli.main import run

sys.argv = ["srfgan", *given]
run()
"""
"""Runs a command; `given` are its arguments."""


@dataclass(frozen=True)
class Forked:
    """A process that was started.

    Attributes:
        process: it.
        output: the file of what it says, on stdout and stderr.
    """

    process: ForkServerProcess
    output: Path

    def ended(self) -> tuple[int, str]:
        """Wait for its end; its exit code, or minus the number of the signal that ended it, and what it said."""
        self.process.join(HANGS)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        return self.process.exitcode, self.output.read_text()


def start(source: str, given: Any, folder: Path, **environ: str) -> Forked:
    """Execute Python code, in which `given` is a variable, in a folder and with more environment variables."""
    descriptor, output = tempfile.mkstemp(suffix=".txt", dir=folder)
    os.close(descriptor)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
    process = _SERVER.Process(target=_enter, args=(source, given, folder, environment, output))
    process.start()
    return Forked(process, Path(output))


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _enter(source: str, given: Any, folder: Path, environment: dict[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    multiprocessing.set_start_method("fork", force=True)  # its own processes as those of any other command
    said = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(said, stream.fileno())
    exec(compile(source, "<forked>", "exec"), {"__name__": "__forked__", "given": given})
