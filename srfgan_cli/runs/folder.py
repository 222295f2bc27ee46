"""A run's folder: `runs/<stage>/<preset>/` with its config, checkpoint, metrics and results."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from pydantic import BaseModel

from srfgan.models.errors import InputError
from srfgan_cli.machine.files import file_hash, write_atomically
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.library import dump_yaml, flatten, load_preset

RUNS_DIR = Path("runs")
FREE_TO_CHANGE = (
    "data.train",
    "data.train.annotations",
    "data.train.images",
    "data.val",
    "data.val.annotations",
    "data.val.images",
    "data.workers",
    "data.outside",
    "data.max_pixels",
    "log_every",
    "checkpoint_every",
    "evaluate_every",
    "accumulate",
    "recompute",
    "evaluation.batch_size",
    "trackers",
    "description",
    "rows",
    "num_classes",
    "categories",
)
"""Keys (or their last parts) that a resumed run may have otherwise than when it began. Data may lie elsewhere: what it
holds is compared (`Run.check_data`), and the last two keys are the data's."""

_SPLITS = {"train": "data", "val": "val", "unlabeled": "unlabeled"}
"""What `sources.json` calls a split's data."""


@dataclass(frozen=True)
class Run:
    """Where one stage of one preset keeps what it makes."""

    folder: Path

    @classmethod
    def default(cls, stage: str, preset: str) -> Run:
        """The place where other stages look for it."""
        return cls(RUNS_DIR / stage / preset)

    @classmethod
    def of_detector(cls, config: Config) -> Run:
        """Where the detector that a preset evaluates was trained: its last stage's run."""
        return cls.default(config.stages[-1], config.sources.detector or config.name)

    @property
    def checkpoint(self) -> Path:
        """The last full state, from which `--resume` continues."""
        return self.folder / "checkpoint.pt"

    @property
    def model(self) -> Path:
        """The finished run's weights, with config and categories."""
        return self.folder / "model.pt"

    @property
    def best(self) -> Path:
        """The weights that scored best so far, as `model`; only of runs that are scored on the way."""
        return self.folder / "best.pt"

    @property
    def config(self) -> Path:
        """The fully resolved config."""
        return self.folder / "config.yaml"

    @property
    def sources(self) -> Path:
        """The files that the run was started from, with their hashes."""
        return self.folder / "sources.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per logged iteration."""
        return self.folder / "metrics.jsonl"

    @property
    def page(self) -> Path:
        """How the training goes, for people; its pictures are in the folder `training`."""
        return self.folder / "training.html"

    @property
    def tracked(self) -> Path:
        """Which runs at trackers this one is, by their names."""
        return self.folder / "trackers.json"

    @property
    def results(self) -> Path:
        """Detections in COCO results format."""
        return self.folder / "results.json"

    @property
    def evaluation(self) -> Path:
        """The last evaluation's scores: the document of `srfgan eval --json`."""
        return self.folder / "evaluation.json"

    @property
    def files(self) -> tuple[Path, ...]:
        """All that a run writes as files of these names, there or not; its folders are not among them."""
        tta = self.folder / "results_tta.json"
        return (
            *(self.checkpoint, self.model, self.best, self.config, self.sources, self.metrics),
            *(self.page, self.results, self.evaluation, self.tracked, tta),
            *(self.folder / "segm" / path.name for path in (self.results, tta)),
        )

    def check_whole(self) -> None:
        """Whether the finished run's weights are all there, as far as the file's end tells.

        Raises:
            InputError: they are not.
        """
        if not is_zipfile(self.model):  # as torch writes it; the list of what is in it comes last
            raise InputError(
                f"{self.model} is empty or damaged. Put a whole one back; or remove it, and the same command makes "
                "it again from the run's last checkpoint."
            )

    def scored(self) -> dict[str, Any]:
        """The last evaluation's scores; empty where there is none.

        Raises:
            InputError: the file is damaged.
        """
        found = document(self.evaluation)
        if not found and self.evaluation.is_file():
            raise InputError(
                f"{self.evaluation} is damaged. Put a whole one back, or remove it to go without."
            )
        return found

    def check_free(self, resume: bool, overwrite: bool) -> None:
        """Whether a run may start here; changes nothing.

        Raises:
            InputError: a finished or unfinished run is there, or what no run has left, or `resume` finds nothing to
                continue.
        """
        self._check_own()
        if resume and not self.checkpoint.is_file():
            raise InputError(f"--resume: {self.folder} holds no checkpoint. Start the run without --resume.")
        if resume and self.model.is_file():
            raise InputError(f"--resume: the run in {self.folder} is finished. --overwrite starts it anew.")
        if resume or overwrite:
            return
        if self.model.is_file():
            raise InputError(
                f"{self.folder} holds a finished run. Choose another --output-dir, or --overwrite to replace it."
            )
        if self.checkpoint.is_file():
            raise InputError(
                f"{self.folder} holds an unfinished run. --resume continues it, --overwrite starts it anew."
            )

    def _check_own(self) -> None:
        """Whether what has a run's names here is a run's: it would be replaced.

        Raises:
            InputError: it is somebody else's, as of a project with a folder `training` of its own.
        """
        begun = (self.sources, self.checkpoint, self.model)
        strange = [] if self._aside.is_dir() or any(path.is_file() for path in begun) else self._parts()
        if strange:
            raise InputError(
                f"{self.folder} holds {', '.join(path.name for path in strange)}, but no run that has left it and may "
                "be replaced. Choose another --output-dir, or move it away."
            )

    def begin(self, config: Config, files: Mapping[str, Path], data: Mapping[str, tuple[Path, str]]) -> None:
        """Make the folder, an old run set aside, and write the config and what the run starts from.

        Args:
            files: checkpoints of other runs, by the options that name them.
            data: what each of its splits was read from, and the digest of its content.

        Raises:
            InputError: the folder cannot be made.
        """
        splits = {
            _SPLITS[name]: {"file": str(path), "sha256": digest} for name, (path, digest) in data.items()
        }
        begun = _identified(files) | splits
        sources = json.dumps(begun, indent=2) + "\n"  # some may be the old run's own
        self.set_aside()
        # First of all, as it tells a run's files from others of the same names.
        write_atomically(self.sources, lambda file: file.write(sources.encode()))
        write_atomically(self.config, lambda file: file.write(dump_yaml(config).encode()))

    def set_aside(self) -> None:
        """Move what an old run left into a folder of its own, until the new one has a checkpoint (`let_go`).

        What a new run that was killed before that has left is removed; the old one is kept.

        Raises:
            InputError: the folder cannot be written.
        """
        if self._aside.is_dir() and not self.checkpoint.is_file() and not self.model.is_file():
            self.clear()
            return
        self.let_go()
        self.move_to(self._aside)

    def bring_back(self) -> None:
        """Undo `set_aside` where the new run has come to nothing; does nothing where nothing is set aside.

        Raises:
            InputError: the folder cannot be written.
        """
        if self._aside.is_dir():
            self.clear()
            Run(self._aside).move_to(self.folder)
            self.let_go()

    def let_go(self) -> None:
        """Remove what is set aside."""
        shutil.rmtree(self._aside, ignore_errors=True)

    def move_to(self, target: Path) -> None:
        """Move what a run has left, and nothing else, into another folder of the same disk, over what is there.

        Raises:
            InputError: a folder cannot be written.
        """
        try:
            for path in self._parts():
                goal = target / path.relative_to(self.folder)
                goal.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    shutil.rmtree(goal, ignore_errors=True)
                path.replace(goal)
            self._remove_emptied()
        except OSError as error:
            raise InputError(f"Cannot write to {target}: {error.filename}: {error.strerror}.") from None

    def clear(self) -> None:
        """Remove what an old run left, its place apart.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            for path in self._parts():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            self._remove_emptied()
        except OSError as error:
            raise InputError(f"Cannot write to {self.folder}: {error.filename}: {error.strerror}.") from None

    def _remove_emptied(self) -> None:
        """Remove the folder of masks' results if nothing is left in it, which may be somebody's own."""
        with suppress(OSError):
            (self.folder / "segm").rmdir()

    @property
    def _aside(self) -> Path:
        return self.folder / ".srfgan-replaced"

    def _parts(self) -> list[Path]:
        """What a run has left in the folder.

        Raises:
            InputError: a folder in a file's place, or a file in a folder's, which no run has left.
        """
        folders = (self.folder / "tensorboard", self.folder / "training")
        kinds = dict.fromkeys(self.files, False) | dict.fromkeys(folders, True)
        parts = {path: kind for path, kind in kinds.items() if os.path.lexists(path)}
        for path, is_folder in parts.items():
            if path.is_dir() != is_folder:
                there, wanted = ("file", "folder") if is_folder else ("folder", "file")
                raise InputError(f"{path}: there is a {there} where a run has a {wanted}; move it away.")
        return list(parts)

    def begun_config(self) -> Config:
        """The config that the run in the folder was started with.

        Raises:
            InputError: nothing says it any more, or it cannot be read.
        """
        lost = "is not there any more" if not self.config.is_file() else ""
        if not lost and not self.config.stat().st_size:
            lost = "is empty"
        if lost:
            raise InputError(
                f"{self.config} {lost}, which says how the run was started. Put it back, or move {self.folder} away "
                "to start anew."
            )
        return load_preset(self.config)

    def changes(self, config: Config) -> list[str]:
        """Keys, each with both values, that the run in the folder was started with otherwise and cannot go on with.

        Raises:
            InputError: as `begun_config`.
        """
        old, new = flatten(self.begun_config()), flatten(config)
        # Both ways: a section that is there only once has no keys in the other.
        return [
            f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
            for key in new | old
            if old.get(key) != new.get(key) and not is_free(key)
        ]

    def check_same(self, config: Config) -> None:
        """Whether this is the config that the run in the folder was started with.

        Raises:
            InputError: it is not, and the keys are named; or nothing says it any more.
        """
        try:
            changed = self.changes(config)
        except InputError as error:
            raise InputError(f"--resume: {error}") from None
        if changed:
            raise InputError(
                f"--resume: {self.folder} was started with another config. Changed: {'; '.join(changed)}. "
                "Use the same options as then, or --overwrite to start anew."
            )

    def check_sources(self, files: Mapping[str, Path]) -> None:
        """Whether these are the files that the run in the folder was started from, wherever they lie now.

        Raises:
            InputError: one is another; names both.
        """
        if not self.sources.is_file():
            return  # begun by a version that kept no record
        began = self._began()
        changed = [
            f"{name}: {_described(began.get(name))} -> {_described(now)}"
            for name, now in _identified(files).items()
            if name not in began or began[name].get("sha256") != now["sha256"]
        ]
        if changed:
            raise InputError(
                f"--resume: {self.folder} was started from other files than these. Changed: {'; '.join(changed)}. "
                "Name files of the same content, or --overwrite to start anew."
            )

    def check_data(self, data: Mapping[str, tuple[Path, str]]) -> None:
        """Whether this is the data that the run in the folder was started with, wherever it lies now.

        Args:
            data: what each of its splits was read from, and the digest of its content.

        Raises:
            InputError: a split has changed.
        """
        began = self._began()
        for name, (path, digest) in data.items():
            split = began.get(_SPLITS[name])  # None for all but train if an older version began it
            if split is not None and split.get("sha256") != digest:
                raise InputError(
                    f"--resume: {self.folder} was started with other {name} data than {path} is now: its images, "
                    "annotations or classes have changed. Go on with the same data, or --overwrite to start anew."
                )

    def _began(self) -> dict[str, Any]:
        """What the run was started from; nothing where a version began it that kept no record."""
        if not self.sources.is_file():
            return {}
        try:
            began = dict(json.loads(self.sources.read_bytes()))
            return {name: dict(source) for name, source in began.items()}
        except (OSError, ValueError, TypeError, RecursionError):
            raise InputError(
                f"--resume: {self.sources} is damaged. --overwrite starts the run anew."
            ) from None


def logged(metrics: Path) -> list[dict[str, Any]]:
    """What a run has logged, each with its `iteration`; empty before the first.

    What is no such record is skipped, as half a line at the end, which a killed run may leave.
    """
    lines = _text(metrics).splitlines()
    return [record for line in lines if type((record := parsed(line)).get("iteration")) is int]


def document(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none, or it is damaged."""
    return parsed(_text(path))


def _text(path: Path) -> str:
    """What is in a file; empty where it cannot be read, or is a pipe, on which a reader would wait."""
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return ""


def parsed(text: str) -> dict[str, Any]:
    """A JSON object; empty where the text is none, as a line that a killed run has written half of."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def continued(began: Config, now: Config) -> Config:
    """The config with which a run can go on: as it began, with the values of `now` that are free to change."""
    return Config.model_validate(_taking_free(began, now))


def _identified(files: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    return {name: {"file": str(path), "sha256": file_hash(path)} for name, path in files.items()}


def _described(source: Mapping[str, str] | None) -> str:
    return "none" if source is None else f"{source['file']} (sha256 {source['sha256'][:8]})"


def is_free(key: str) -> bool:
    """Whether a resumed run may have another value of a dotted key than when it began."""
    return key in FREE_TO_CHANGE or key.split(".")[-1] in FREE_TO_CHANGE


def _taking_free(began: BaseModel, now: BaseModel, prefix: str = "") -> dict[str, Any]:
    taken: dict[str, Any] = {}
    for key, value in began:
        other = getattr(now, key)
        if isinstance(value, BaseModel) and isinstance(other, BaseModel):
            taken[key] = _taking_free(value, other, f"{prefix}{key}.")
        else:
            taken[key] = other if is_free(f"{prefix}{key}") else value
    return taken


def newest_detector() -> Path | None:
    """The most recently finished detector below `runs/`, a stage's own or a fit's target, or None."""
    places = ("finetune/*/model.pt", "extract/*/model.pt", "fit/*/finetune*/model.pt")
    found = [path for place in places for path in RUNS_DIR.glob(place)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
