"""A folder in which runs of a table are made: what was planned there, and of each run what it was and how it went.

The plan, `<table>/plan.json`, is written before the first run, so that a table which was cut short can be read as well.
Weights are not read: a folder without them, as it is brought home from another machine, does. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from srfgan.models.errors import InputError
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.presets.library import load_preset, overlay_values
from srfgan_cli.reproduction.graph import Graph, Job, JobKind, Settings
from srfgan_cli.reproduction.identity import scoring, what_decides
from srfgan_cli.reproduction.jobs import JobFolder, job_folder
from srfgan_cli.screen.pages import versions

_PLANNED = {"settings", "device", "at_a_time", "versions", "rows", "runs"}


class _Run(BaseModel):
    kind: JobKind
    sources: dict[str, str]


class _Plan(BaseModel):
    """What `write_plan` writes."""

    settings: Settings
    device: str
    at_a_time: int
    versions: dict[str, str]
    rows: dict[str, dict[Annotated[str, Field(pattern="^[0-9]{1,18}$")], str]]
    runs: dict[str, _Run]
    overlay: dict[str, Any] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the runs that rows and runs rest on are all there."""
        named = {key for of_row in self.rows.values() for key in of_row.values()}
        return self.runs.keys() >= named.union(*(run.sources.values() for run in self.runs.values()))


@dataclass
class Decisive:
    """What decides the result of one of the runs behind a score: of its config, by key; and the file that has it."""

    file: Path
    values: dict[str, Any]


@dataclass(frozen=True)
class Place:
    """One `--output-dir` of `srfgan reproduce`, as its last command for one table left it.

    Attributes:
        folder: as it was named.
        plan: the document of plan.json.
    """

    folder: Path
    table: str
    plan: dict[str, Any]
    _jobs: dict[str, Job] = field(default_factory=dict, init=False, repr=False)

    @property
    def file(self) -> Path:
        """The plan's."""
        return self.folder / self.table / "plan.json"

    @property
    def device(self) -> str:
        """What it ran on, in words."""
        return str(self.plan["device"])

    @property
    def rows(self) -> set[str]:
        """The presets of the rows that were asked for."""
        return set(self.plan["rows"])

    @property
    def settings(self) -> Settings:
        """What the command was told."""
        return Settings(**self.plan["settings"])

    @property
    def overlay(self) -> dict[str, Any] | None:
        """What `settings.overlay` laid over every row, by dotted key; None where an earlier version has planned it."""
        return self.plan.get("overlay")

    @property
    def costs(self) -> dict[str, dict[str, Any]]:
        """What detectors cost, by row, of the rows that a report has measured."""
        try:
            report = json.loads((self.folder / self.table / "report.json").read_text(encoding="utf-8"))
            return {row["preset"]: dict(row["cost"]) for row in report["rows"] if row["cost"]}
        except (OSError, ValueError, RecursionError, TypeError, LookupError):
            return {}

    def scoring(self, rows: Collection[str]) -> list[str]:
        """The runs that score these rows, each once, done or not."""
        return list(
            dict.fromkeys(key for row in self.rows & set(rows) for key in self.plan["rows"][row].values())
        )

    def scored(self) -> Iterator[tuple[str, int, str]]:
        """The preset, seed and key of every run that scores a row and is done."""
        for row, runs in self.plan["rows"].items():
            for seed, key in runs.items():
                if self.job_folder(key).scores():
                    yield row, int(seed), key

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
            run = self.plan["runs"][key]
            preset = self.job_folder(key).preset
            self._jobs[key] = Job(key, run["kind"], load_preset(preset), run["sources"])
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


def write_plan(
    table: str, graph: Graph, settings: Settings, output_dir: Path, *, device: str, at_a_time: int
) -> None:
    """Write what is going to run; `device` in words, and how many runs are to share it.

    Raises:
        InputError: it cannot be written.
    """
    rows: dict[str, dict[str, str]] = {}
    for (row, _), key in graph.results.items():
        rows.setdefault(row, {})[str(graph.jobs[key].config.seed)] = key
    plan = {
        "settings": asdict(settings),
        "device": device,
        "at_a_time": at_a_time,
        "versions": versions(),
        "overlay": {} if settings.overlay is None else overlay_values(settings.overlay),
        "rows": rows,
        "runs": {key: {"kind": job.kind, "sources": job.sources} for key, job in graph.jobs.items()},
    }
    text = json.dumps(plan, indent=2) + "\n"
    write_atomically(Place(output_dir, table, {}).file, lambda file: file.write(text.encode()))


def read_place(folder: Path, table: str) -> Place:
    """A folder with what was planned of a table.

    Raises:
        InputError: there is nothing, or nothing that this version can read.
    """
    file = Place(folder, table, {}).file
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
        known = plan.keys() >= _PLANNED and plan["settings"].keys() == {one.name for one in fields(Settings)}
        damaged = known and not _Plan.model_validate(plan).is_whole
    except OSError:
        raise InputError(
            f"--merge {folder}: there is no {file}. Name the --output-dir of a `srfgan reproduce {table}`; an "
            "older version's gets the file from the same command, which trains nothing again where the weights are."
        ) from None
    except (ValueError, RecursionError, AttributeError, KeyError):
        known = damaged = True
    if damaged:
        raise InputError(f"--merge {folder}: {file} is damaged. Fetch it again from where it was written.")
    if not known:
        raise InputError(f"--merge {folder}: {file} is of another version. Merge with the one that wrote it.")
    return Place(folder, table, plan)
