"""One job as a process of its own: started, watched, told to stop, and asked why it failed."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from srfgan_cli.machine.launcher import INTERRUPTED
from srfgan_cli.reproduction.graph import Job
from srfgan_cli.reproduction.jobs import JobFolder, Machine, command


@dataclass(frozen=True)
class RunningJob:
    """A job at work.

    Attributes:
        number: its place in the table's graph, from 1.
        machine: what it runs on.
        log_start: bytes in its log of earlier attempts.
    """

    job: Job
    number: int
    folder: JobFolder
    machine: Machine
    process: subprocess.Popen[bytes]
    log_start: int

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def stop(self, number: int) -> None:
        """Pass a signal on; srun, where it started the job, hands SIGTERM to its tasks but answers SIGINT itself."""
        if not self.ended:
            self.process.send_signal(signal.SIGTERM if self.machine.prefix else number)

    def finish(self) -> str | None:
        """Keep what an ended job made; returns why it failed, or None."""
        code = self.process.wait()
        if code != 0:
            return _reason(code, self.folder.log, self.log_start)
        if self.job.kind == "eval":
            _answer(self.folder).replace(self.folder.run.evaluation)
        return None if self.folder.state(self.job) == "done" else "it ended without its result."


def start_job(
    job: Job, number: int, folders: dict[str, JobFolder], machine: Machine, lock: int
) -> RunningJob:
    """Start a job, or go on with it.

    Args:
        lock: file descriptor of the folder's lock; it goes with the job, so that one which outlives this process
            keeps others out of the folder.

    Raises:
        InputError: its folder cannot be written, or what a job that goes on began with not be read.
    """
    folder = folders[job.key]
    arguments = command(job, folders, machine)
    folder.failure.unlink(missing_ok=True)
    threads = {} if machine.threads is None else {"OMP_NUM_THREADS": str(machine.threads)}
    with folder.log.open("ab") as log:
        answer = _answer(folder).open("wb") if job.kind == "eval" else None
        try:
            process = subprocess.Popen(
                arguments,
                stdout=answer or log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                # A session of its own: a Ctrl-C at the terminal reaches the job once, from here.
                start_new_session=True,
                pass_fds=[lock],
                env=threads | os.environ,
            )
        finally:
            if answer is not None:
                answer.close()
        return RunningJob(job, number, folder, machine, process, log.tell())


def _answer(folder: JobFolder) -> Path:
    return folder.path / "evaluation.json.part"


def _reason(code: int, log: Path, log_start: int) -> str:
    """What a failed job said last."""
    if code < 0:
        return f"it was ended by signal {signal.Signals(-code).name}."
    text = log.read_bytes()[log_start:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("Error:", "Failed:"))]
    last = (said or lines or [""])[-1]
    return f"interrupted by itself: {last}" if code == INTERRUPTED else f"exit code {code}: {last}"
