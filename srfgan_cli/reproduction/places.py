"""A folder in which runs of a table were made, read back: its report, and of each run what it was and how it went.

The weights are not read, so that a folder without them, as it is brought home from another machine, does as well.
Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.presets.library import load_preset
from srfgan_cli.reproduction.graph import Job, Settings
from srfgan_cli.reproduction.identity import scoring, what_decides
from srfgan_cli.reproduction.jobs import JobFolder, job_folder


@dataclass
class Decisive:
    """What decides the result of one of the runs behind a score: of its config, by key; and the file that has it."""

    file: Path
    values: dict[str, Any]


@dataclass(frozen=True)
class Place:
    """One `--output-dir` of `srfgan reproduce`, with the report of one table.

    Attributes:
        folder: as it was named.
        report: the document of its report.json.
    """

    folder: Path
    table: str
    report: dict[str, Any]
    _jobs: dict[str, Job] = field(default_factory=dict, init=False, repr=False)

    @property
    def file(self) -> Path:
        """The report's."""
        return self.folder / self.table / "report.json"

    @property
    def device(self) -> str:
        """What it ran on, in words."""
        return str(self.report["device"])

    @property
    def rows(self) -> set[str]:
        """The presets of the report's rows."""
        return {row["preset"] for row in self.report["rows"]}

    @property
    def settings(self) -> Settings:
        """What the command was told."""
        return Settings(**self.report["settings"])

    @cached_property
    def states(self) -> dict[str, str]:
        """How far each run is, by key."""
        return {run["run"]: run["state"] for run in self.report["runs"]}

    def scored(self) -> Iterator[tuple[str, int, str]]:
        """The preset, seed and key of every run that scores a row and is done."""
        for row in self.report["rows"]:
            for seed, key in row["runs"].items():
                if self.states[key] == "done" and self.job_folder(key).scores():
                    yield row["preset"], int(seed), key

    def job_folder(self, key: str) -> JobFolder:
        """Where a run keeps what it makes."""
        return job_folder(self.folder, key)

    def panel(self, key: str) -> Path:
        """The picture of a detector's pyramid, where the report has one."""
        return self.folder / self.table / f"panel-{key}.png"

    def job(self, key: str) -> Job:
        """A run, as it was started.

        Raises:
            InputError: its preset is missing, or not readable.
        """
        if key not in self._jobs:
            run = next(run for run in self.report["runs"] if run["run"] == key)
            config = load_preset(self.job_folder(key).preset)
            self._jobs[key] = Job(key, run["kind"], config, run["sources"])
        return self._jobs[key]

    def with_sources(self, key: str, role: str = "") -> dict[str, tuple[str, Job]]:
        """By key, a run after those that it rests on, each with the option that names it: `guide`, `weights`.

        Raises:
            InputError: as `job`.
        """
        job = self.job(key)
        found: dict[str, tuple[str, Job]] = {}
        for name, source in job.sources.items():
            found |= self.with_sources(source, name)
        return {**found, key: (role, job)}

    def identity(self, key: str) -> dict[str, Decisive]:
        """What decides a score but the seed, by part: `guide`, `generator`, ...; empty for the detector itself.

        Raises:
            InputError: as `job`.
        """
        parts = {"": Decisive(self.file, {})}
        for one, (role, job) in self.with_sources(key).items():
            part = parts.setdefault("" if role == "weights" else role, Decisive(self.file, {}))
            part.file = self.job_folder(one).preset
            if job.kind != "eval":
                part.values |= what_decides(job.config, job.kind, self.settings.unlabeled)
            if one == key:
                part.values |= scoring(job.config)
            part.values.pop("seed", None)
        return parts


def read_place(folder: Path, table: str) -> Place:
    """The folder with its report of a table.

    Raises:
        InputError: there is none, or none that can be merged.
    """
    place = Place(folder, table, {})
    try:
        report = json.loads(place.file.read_text(encoding="utf-8"))
        present = report["settings"].keys() == {one.name for one in fields(Settings)} and all(
            "runs" in row for row in report["rows"]
        )
    except OSError:
        raise InputError(
            f"--merge {folder}: there is no {place.file}. Name the --output-dir of a `srfgan reproduce {table}` that "
            "has written its report."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"--merge {folder}: {place.file} is no report, or damaged.") from None
    if "merged" in report:
        raise InputError(
            f"--merge {folder}: {place.file} is merged itself. Name the folders that it was merged from."
        )
    if not present:
        raise InputError(
            f"--merge {folder}: {place.file} is of another version. The command that made it makes it again, without "
            "any training."
        )
    return Place(folder, table, report)
