"""Running a graph of jobs, each as a command of its own, one after the other or several at a time."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from srfgan.models.errors import InputError
from srfgan_cli.machine.interrupt import handling
from srfgan_cli.reproduction.graph import Graph, Job
from srfgan_cli.reproduction.jobs import JobFolder, Machine, job_folder
from srfgan_cli.reproduction.overall import Overall, overall_progress
from srfgan_cli.reproduction.process import RunningJob, start_job
from srfgan_cli.screen.console import stderr, styled

POLL = 0.5
"""Seconds between two looks at the running jobs."""


class Stopped(Exception):  # noqa: N818
    """A signal asked to stop; the running jobs have saved their state."""


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
    """The folder of each job."""
    return {key: job_folder(output_dir, key) for key in graph.jobs}


def run_jobs(
    graph: Graph,
    folders: dict[str, JobFolder],
    output_dir: Path,
    machines: Sequence[Machine],
    begin: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run what is not done yet, one job on each machine at a time; one that fails stops only those that rest on it.

    Args:
        folders: by job, below `output_dir`, which is kept to this process.
        machines: as `deal_out` gives them.
        begin: called once `output_dir` is this process's own, before anything in it is looked at.

    Raises:
        InputError: a folder that cannot be written, or another reproduction at work in it.
        Stopped: by SIGINT, SIGTERM or SIGHUP; the running jobs have ended in order.
    """
    with _locked(output_dir) as lock:
        begin()
        with overall_progress(graph, folders) as overall, _signals() as received:
            return _Schedule(graph, folders, overall, lock).run(machines, received)


class _Schedule:
    """Which jobs wait, which run and how the others ended."""

    def __init__(self, graph: Graph, folders: dict[str, JobFolder], overall: Overall, lock: int) -> None:
        self.graph, self.folders, self.overall, self.lock = graph, folders, overall, lock
        self.numbers = {key: number for number, key in enumerate(graph.jobs, start=1)}
        self.waiting = [job for job in graph.jobs.values() if folders[job.key].state(job) != "done"]
        self.running: list[RunningJob] = []
        self.outcome = Outcome()

    def run(self, machines: Sequence[Machine], received: Sequence[int]) -> Outcome:
        """Run everything, or until a signal has come and what is running has ended."""
        free, passed_on = list(machines), 0
        try:
            while self.running or (self.waiting and not received):
                while free and not received and (job := self._next()) is not None:
                    self._start(job, free.pop(0))
                for number in received[passed_on:]:
                    for one in self.running:
                        one.stop(number)
                passed_on = len(received)
                time.sleep(POLL if self.running else 0)
                free += self._collect(interrupted=bool(received))
        except BaseException:
            self._stop_all()
            raise
        if received:
            raise Stopped
        return self.outcome

    def _next(self) -> Job | None:
        """The first job that can start; those that rest on a failed one leave the queue."""
        unfinished = {job.key for job in self.waiting} | {one.job.key for one in self.running}
        for job in list(self.waiting):
            causes = [
                key for key in job.sources.values() if key in self.outcome.failed | self.outcome.blocked
            ]
            if causes:
                self.outcome.blocked[job.key] = self.outcome.blocked.get(causes[0], causes[0])
                self.waiting.remove(job)
                self.overall.end(job)
            elif not unfinished.intersection(job.sources.values()):
                return job
        return None

    def _start(self, job: Job, machine: Machine) -> None:
        self.waiting.remove(job)
        one = start_job(job, self.numbers[job.key], self.folders, machine, self.lock)
        self.running.append(one)
        self.overall.begin(one)

    def _collect(self, *, interrupted: bool) -> list[Machine]:
        """Take note of the jobs that have ended; returns what they ran on."""
        ended = [one for one in self.running if one.ended]
        for one in ended:
            self.running.remove(one)
            problem = one.finish()
            self.overall.end(one.job)
            if problem is not None and not interrupted:
                self._failed(one, problem)
        self.overall.update(self.running)
        return [one.machine for one in ended]

    def _failed(self, one: RunningJob, problem: str) -> None:
        self.outcome.failed[one.job.key] = problem
        one.folder.failed(problem)
        rows = ", ".join(self.graph.rows_of(one.job.key))
        stderr.print(
            styled(("Failed:", "red bold"), f" {one.job.key} (rows {rows}): {problem} Log: {one.folder.log}")
        )

    def _stop_all(self) -> None:
        """Leave no job behind when something goes wrong here."""
        for one in self.running:
            one.stop(signal.SIGTERM)
        for one in self.running:
            one.process.wait()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGHUP received inside, in order, instead of their usual effect."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    with handling(note):
        yield received


@contextmanager
def _locked(output_dir: Path) -> Iterator[int]:
    """Keep the folder to this process and its jobs; gives the lock's file descriptor.

    Raises:
        InputError: another process has it, or the folder cannot be written.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"--output-dir {output_dir} is a file; name a folder.")
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
                f"{output_dir}: another `srfgan reproduce` or `fit`, or a job that one has left behind, is still "
                "running there. Wait for it, or choose another --output-dir."
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)
