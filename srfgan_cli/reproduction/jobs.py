"""A job's folder: what it has reached, how it is started, and what it scored."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from srfgan.models.errors import InputError
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.library import dump_yaml
from srfgan_cli.reproduction.graph import Job
from srfgan_cli.runs.folder import Run, continued, document, logged, parsed
from srfgan_cli.screen.console import stderr

TAIL = 8192
"""Bytes at the end of a log that surely hold a whole line."""
State = Literal["new", "begun", "failed", "done"]


@dataclass(frozen=True)
class Machine:
    """What every job runs on, in the training commands' own words.

    Attributes:
        data_root: `--data-root`, where the data set is a folder.
        unlabeled: `--unlabeled`, for the jobs that train with pseudo-labels.
        prefix: what starts a job's command, as `srun` in a SLURM job.
        threads: per CPU process; None leaves it to the run.
    """

    data_root: Path | None = None
    unlabeled: Path | None = None
    devices: str = "auto"
    launcher: str = "auto"
    prefix: tuple[str, ...] = ()
    threads: int | None = None

    @classmethod
    def asked_for(
        cls, data_root: Path | None, unlabeled: Path | None, devices: str, launcher: str
    ) -> Machine:
        """As the options of a command that runs jobs say it."""
        prefix = ("srun", "--kill-on-bad-exit=1") if launcher == "slurm" else ()
        return cls(data_root, unlabeled, devices, launcher, prefix)


@dataclass(frozen=True)
class JobFolder:
    """Where one job keeps what it makes: the run's own files, its preset and its log."""

    path: Path

    @property
    def run(self) -> Run:
        """The training's own files."""
        return Run(self.path)

    @property
    def preset(self) -> Path:
        """The resolved preset that the job is started with."""
        return self.path / "preset.yaml"

    @property
    def log(self) -> Path:
        """What its processes printed."""
        return self.path / "log.txt"

    @property
    def failure(self) -> Path:
        """Why it did not end well the last time."""
        return self.path / "failed.json"

    def state(self, job: Job) -> State:
        """How far the job is, from its files alone."""
        finished = self.run.evaluation if job.kind == "eval" else self.run.model
        if finished.is_file():
            return "done"
        if self.failure.is_file():
            return "failed"
        return "begun" if self.run.checkpoint.is_file() else "new"

    def as_ended(self, job: Job) -> Job:
        """The job with the iterations that it has had, where `patience` has ended it before its schedule did."""
        solver = job.solver
        if solver is None or solver.patience is None or not self.run.evaluation.is_file():
            return job
        reached = min(self.last_iteration, solver.iterations) or solver.iterations
        stage = getattr(job.config, job.kind)
        ended = stage.model_copy(update={"solver": solver.model_copy(update={"iterations": reached})})
        return replace(job, config=job.config.model_copy(update={job.kind: ended}))

    @property
    def began(self) -> Config | None:
        """The config that a training is done with or goes on with; None where it starts anew.

        Raises:
            InputError: it cannot be read.
        """
        kept = self.run.checkpoint.is_file() or self.run.model.is_file()
        return self.run.begun_config() if kept else None

    def evaluation(self) -> dict[str, Any]:
        """The document of `srfgan eval --json`; empty where nothing was scored."""
        return document(self.run.evaluation)

    def scores(self) -> dict[str, dict[str, float | None]]:
        """`{"box": {"AP": ...}, "mask": {...}}` in percent; empty where nothing was scored, or the file is damaged."""
        found = self.evaluation()
        return {task: found[task] for task in ("box", "mask") if _are_scores(found.get(task))}

    @property
    def results(self) -> Path:
        """The file of results that its scores are of."""
        return self.path / Path(str(self.evaluation().get("results", self.run.results))).name

    def move_to(self, target: Path) -> None:
        """Move what the job has made into another folder of the same disk, over what is there; its log stays.

        Raises:
            InputError: a folder cannot be written.
        """
        self.run.move_to(target)
        try:
            if self.preset.is_file():
                self.preset.replace(JobFolder(target).preset)
            self.failure.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write to {target}: {error.filename}: {error.strerror}.") from None

    def records(self) -> list[dict[str, Any]]:
        """What the run has logged."""
        return logged(self.run.metrics)

    @property
    def training_seconds(self) -> float:
        """Wall-clock time of its logged iterations; starting, scoring and what ran twice are not in it."""
        timed = [record for record in self.records() if "seconds_per_iteration" in record]
        iterations = [0, *(record["iteration"] for record in timed)]
        seconds: float = sum(
            record["seconds_per_iteration"] * (record["iteration"] - before)
            for record, before in zip(timed, iterations, strict=False)
        )
        return seconds

    @property
    def last_iteration(self) -> int:
        """The last iteration logged, from the end of the log alone; 0 before the first."""
        try:
            with self.run.metrics.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return 0
        found = [parsed(line).get("iteration") for line in lines]
        return max((number for number in found if type(number) is int), default=0)

    def failed(self, message: str) -> None:
        """Keep why the job failed, for the report and the next start."""
        text = json.dumps({"message": message})
        write_atomically(self.failure, lambda file: file.write(text.encode()))

    @property
    def failure_message(self) -> str:
        """Why it failed; empty if it did not."""
        return str(document(self.failure).get("message", ""))


def tell_of_damage(folders: Iterable[JobFolder]) -> None:
    """Say which files of scores are damaged: a table leaves them out as it does what is not done yet."""
    for folder in folders:
        if folder.run.evaluation.is_file() and not folder.scores():
            stderr.print(
                f"{folder.run.evaluation} is damaged, and counts as not scored. Put a whole one back, or remove it and "
                "the model beside it: the command that made them scores again."
            )


def job_folder(output_dir: Path, key: str) -> JobFolder:
    """The folder of a job; tables share them."""
    return JobFolder(output_dir / "jobs" / key)


def command(job: Job, folders: dict[str, JobFolder], machine: Machine) -> list[str]:
    """The command that runs or resumes a job; writes its preset first.

    Raises:
        InputError: its folder cannot be written, or what a job that goes on began with not be read.
    """
    folder = folders[job.key]
    # Another table's row, by another name, may have begun the run.
    began = None if job.kind == "eval" else folder.began
    config = continued(began, job.config) if began else job.config
    write_atomically(folder.preset, lambda file: file.write(dump_yaml(config).encode()))
    # -P keeps the current folder off the path: it may hold modules of any name.
    parts = [*machine.prefix, sys.executable, "-P", "-m", "srfgan_cli", job.kind]
    parts += ["--preset", str(folder.preset), "--output-dir", str(folder.path)]
    for name, key in job.sources.items():
        parts += [f"--{name}", str(folders[key].run.model)]
    if machine.data_root is not None:
        parts += ["--data-root", str(machine.data_root)]
    if "teacher" in job.sources:
        parts += ["--unlabeled", str(machine.unlabeled)]
    parts += ["--devices", machine.devices, "--launcher", machine.launcher]
    if job.kind == "eval":
        return [*parts, "--json"]
    return [*parts, "--resume" if began else "--overwrite"]


def _are_scores(value: Any) -> bool:
    """Whether it is metrics by name, at least one; None is one of no objects."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(type(one) in (int, float, type(None)) for one in value.values())
    )
