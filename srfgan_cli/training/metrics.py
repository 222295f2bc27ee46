"""metrics.jsonl and TensorBoard of a run, written by its main process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from models.errors import InputError


class MetricsLog:
    """Appends one JSON object per line, and the same numbers to TensorBoard.

    On resume, lines past the checkpoint's iteration are cut: the iterations run again.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self._path = folder / "metrics.jsonl"
        self._keep_until(start)
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)

    def write(self, iteration: int, values: dict[str, Any]) -> None:
        """Log nested numbers of one iteration.

        Raises:
            InputError: the disk is full.
        """
        try:
            self._file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        except OSError as error:
            raise InputError(f"Cannot write {self._path}: {error.strerror}.") from None
        for key, value in _scalars(values):
            self._board.add_scalar(key, value, iteration)

    def close(self) -> None:
        """Flush both."""
        self._file.close()
        self._board.close()

    def _keep_until(self, start: int) -> None:
        if not self._path.exists():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines()
        self._path.write_text(
            "".join(f"{line}\n" for line in lines if _iteration(line) <= start), encoding="utf-8"
        )


def _iteration(line: str) -> float:
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, KeyError):
        return float("inf")  # a killed process may leave half a line


def _scalars(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            found.append((prefix + key, value))
    return found
