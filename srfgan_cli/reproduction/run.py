"""Running a graph of jobs one after the other, each as a command of its own, with overall progress."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.errors import InputError
from srfgan_cli.console import stderr
from srfgan_cli.launcher import INTERRUPTED
from srfgan_cli.reproduction.cost import work
from srfgan_cli.reproduction.graph import Graph, Job
from srfgan_cli.reproduction.jobs import JobFolder, Machine, command

POLL = 0.5
"""Seconds between two looks at a running job."""


class Stopped(Exception):  # noqa: N818
    """A signal asked to stop; the running job has saved its state."""


@dataclass
class Outcome:
    """How the jobs of a graph ended.

    Attributes:
        failed: why, by key.
        blocked: by key, the failed job that it rests on.
    """

    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)


def job_folders(graph: Graph, output_dir: Path) -> dict[str, JobFolder]:
    """The folder of each job; tables share them."""
    return {key: JobFolder(output_dir / "jobs" / key) for key in graph.jobs}


def run_jobs(graph: Graph, output_dir: Path, machine: Machine) -> Outcome:
    """Run what is not done yet; a job that fails stops only those that rest on it.

    Raises:
        InputError: a folder that cannot be written, or another reproduction at work in it.
        Stopped: by SIGINT or SIGTERM; the running job has ended in order.
    """
    folders = job_folders(graph, output_dir)
    outcome = Outcome()
    with _locked(output_dir) as lock, _overall(graph, folders) as overall:
        for number, job in enumerate(graph.jobs.values(), start=1):
            if folders[job.key].state(job) == "done":
                continue
            cause = next(
                (key for key in job.sources.values() if key in outcome.failed | outcome.blocked), None
            )
            if cause is not None:
                outcome.blocked[job.key] = outcome.blocked.get(cause, cause)
                overall.end(job)
                continue
            overall.begin(job, number)
            problem = _run_job(job, folders, machine, overall, lock)
            overall.end(job)
            if problem is not None:
                outcome.failed[job.key] = problem
                folders[job.key].failed(problem)
                rows = ", ".join(graph.rows_of(job.key))
                stderr.print(
                    f"[red bold]Failed:[/] {job.key} (rows {rows}): {escape(problem)} Log: {folders[job.key].log}",
                    soft_wrap=True,
                )
    return outcome


def _run_job(
    job: Job, folders: dict[str, JobFolder], machine: Machine, overall: _Overall, lock: int
) -> str | None:
    """Run one job to its end; returns why it failed, or None."""
    folder = folders[job.key]
    arguments = command(job, folders, machine)
    folder.failure.unlink(missing_ok=True)
    with folder.log.open("ab") as log:
        earlier = log.tell()
        answer = (folder.path / "evaluation.json.part").open("wb") if job.kind == "eval" else None
        # A session of its own: a Ctrl-C at the terminal reaches the job once, from here. The lock goes with it, so
        # that a job which outlives this process keeps others out of the folder.
        process = subprocess.Popen(
            arguments,
            stdout=answer or log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[lock],
        )
        try:
            code = _wait(process, job, folder, overall, direct=not machine.prefix)
        finally:
            if answer is not None:
                answer.close()
    if code == 0 and job.kind == "eval":
        (folder.path / "evaluation.json.part").replace(folder.run.evaluation)
    if code != 0:
        return _reason(code, folder.log, earlier)
    return None if folder.state(job) == "done" else "it ended without its result."


def _wait(
    process: subprocess.Popen[bytes], job: Job, folder: JobFolder, overall: _Overall, *, direct: bool
) -> int:
    """Watch a job to its end.

    Args:
        direct: `process` is the job itself; srun, which starts it otherwise, passes on SIGTERM, but answers SIGINT
            with its tasks' state.

    Raises:
        Stopped: a signal came; it was passed on, and the job has ended.
    """
    with _signals() as received:
        passed_on = 0
        while process.poll() is None:
            if len(received) > passed_on:
                process.send_signal(received[passed_on] if direct else signal.SIGTERM)
                passed_on += 1
            time.sleep(POLL)
            overall.update(job, folder)
        if received:
            raise Stopped
    return process.returncode


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM received inside, in order, instead of their usual effect."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reason(code: int, log: Path, earlier: int) -> str:
    """What a failed job said last; the first `earlier` bytes of its log are of other attempts."""
    if code < 0:
        return f"it was ended by signal {signal.Signals(-code).name}."
    text = log.read_bytes()[earlier:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("Error:", "Failed:"))]
    last = (said or lines or [""])[-1]
    return f"interrupted by itself: {last}" if code == INTERRUPTED else f"exit code {code}: {last}"


@contextmanager
def _locked(output_dir: Path) -> Iterator[int]:
    """Keep the folder to this process and its jobs; gives the lock's file descriptor.

    Raises:
        InputError: another process has it, or the folder cannot be written.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(output_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"Cannot write to {output_dir}: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{output_dir}: another `srfgan reproduce`, or a job that one has left behind, is still running there. "
                "Wait for it, or choose another --output-dir."
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)


class _Overall:
    """The progress bar over all jobs, in units of their estimated cost."""

    def __init__(self, graph: Graph, progress: Progress, folders: dict[str, JobFolder]) -> None:
        self.jobs = len(graph.jobs)
        self.work = {key: work(job) for key, job in graph.jobs.items()}
        self.progress = progress
        todo = {key for key, job in graph.jobs.items() if folders[key].state(job) != "done"}
        self.ended = 0.0
        total = sum(self.work[key] for key in todo)
        self.task: TaskID = progress.add_task("", total=total, job="")

    def begin(self, job: Job, number: int) -> None:
        """A job starts."""
        self.progress.update(self.task, description=f"{number}/{self.jobs}", job=_name(job))
        if not self.progress.console.is_terminal:
            stderr.print(f"{number}/{self.jobs} {_name(job)}", soft_wrap=True)

    def update(self, job: Job, folder: JobFolder) -> None:
        """Show how far the running job has come; a finished one counts whole."""
        if folder.state(job) == "done":
            self.end(job)
            return
        if job.solver is None:
            return
        reached = folder.last_iteration
        done = self.ended + self.work[job.key] * reached / job.solver.iterations
        self.progress.update(
            self.task, completed=done, job=f"{_name(job)}  {reached}/{job.solver.iterations}"
        )

    def end(self, job: Job) -> None:
        """A job has ended, well or not, or will not run."""
        self.ended += self.work.pop(job.key, 0.0)
        self.work[job.key] = 0.0
        self.progress.update(self.task, completed=self.ended)


def _name(job: Job) -> str:
    model = job.config.model
    return f"{job.kind} {model.detector} {model.neck.name} {model.neck.upsampler}, seed {job.config.seed}"


@contextmanager
def _overall(graph: Graph, folders: dict[str, JobFolder]) -> Iterator[_Overall]:
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[job]}"),
        console=stderr,
        refresh_per_second=2,
    )
    with bar:
        yield _Overall(graph, bar, folders)
