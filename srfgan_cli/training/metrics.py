"""metrics.jsonl and TensorBoard of a run, written by its main process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.runs.trackers import Trackers
from srfgan_cli.training.board import Board
from srfgan_cli.training.watch import Pictures


class MetricsLog:
    """Appends one JSON object per line, and the same numbers to TensorBoard and, where there are any, trackers.

    On resume, lines past the checkpoint's iteration are cut: the iterations run again.

    Raises:
        InputError: here and in every method: the disk is full, or something is in the place of a file or folder.
    """

    def __init__(self, folder: Path, start: int, trackers: Trackers | None = None) -> None:
        self._trackers = trackers
        self._path = folder / "metrics.jsonl"
        self._evaluated = self._keep_until(start)
        with _writing(folder):
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
            # TensorBoard hides what an earlier process logged from this step on.
            self._board = Board(folder / "tensorboard", start + 1)

    def has_evaluation(self, iteration: int) -> bool:
        """Whether an earlier process of this run has logged an iteration's scores."""
        return iteration in self._evaluated

    def write(self, iteration: int, values: dict[str, Any]) -> None:
        """Log nested numbers of one iteration."""
        with _writing(self._path.parent):
            for key, value in _scalars(values):
                self._board.add(key, value, iteration)
            if "evaluation" in values:
                self._board.flush()  # once the file has it, a run that goes on does not score again
            self._file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        if self._trackers is not None:
            self._trackers.log(iteration, dict(_scalars(values)))

    def show(self, iteration: int, pictures: Pictures) -> None:
        """Give pictures of one iteration to TensorBoard."""
        with _writing(self._path.parent):
            for name, picture in pictures.items():
                self._board.show(name, picture, iteration)

    def flush(self) -> None:
        """Hand everything to the operating system, which keeps it if this process is killed."""
        with _writing(self._path.parent):
            self._file.flush()
            self._board.flush()

    def close(self) -> None:
        """Flush all."""
        if self._trackers is not None:
            self._trackers.close()
        with _writing(self._path.parent):
            try:
                self._file.close()
            finally:
                self._board.close()

    def _keep_until(self, start: int) -> set[float]:
        """Cut what comes after `start`; returns the iterations of the evaluations that stay."""
        if not self._path.exists():
            return set()
        with _writing(self._path.parent):
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if _iteration(line) <= start]
        text = "".join(f"{line}\n" for line in kept)
        write_atomically(self._path, lambda file: file.write(text.encode()))
        return {_iteration(line) for line in kept if "evaluation" in json.loads(line)}


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or f"the log (metrics.jsonl, tensorboard/) in {folder}"
        raise InputError(f"Cannot write {where}: {error.strerror}. The last checkpoint is kept.") from None


def _iteration(line: str) -> float:
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a killed process may leave half a line


def _scalars(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            found.append((prefix + key, value))
    return found
