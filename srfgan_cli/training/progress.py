"""What a person sees while training: a bar with losses and time left, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from srfgan_cli.screen.console import stderr
from srfgan_cli.screen.progress import WordsColumn, progress_bar


class TrainingProgress:
    """Progress of one stage on stderr; use as a context manager."""

    def __init__(self, title: str, total: int, start: int) -> None:
        self._total = total
        self._start = start
        self._since = time.monotonic()
        self._bar = progress_bar(WordsColumn("losses"), show=stderr.is_terminal)
        self._title = title
        self._task = self._bar.add_task(title, total=total, completed=start, losses="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, iteration: int, losses: Mapping[str, float], lr: float) -> None:
        """Show the mean losses up to `iteration`."""
        text = "  ".join(f"{name.removeprefix('loss_')} {value:.3g}" for name, value in losses.items())
        self._bar.update(self._task, completed=iteration, losses=f"lr {lr:.2g}  {text}")
        if not stderr.is_terminal:
            stderr.print(
                f"{self._title} {iteration}/{self._total}  left {self._left(iteration)}  lr {lr:.2g}  {text}",
                soft_wrap=True,
            )

    def scores(self, iteration: int, scores: Mapping[str, Any]) -> None:
        """Show an evaluation's AP."""
        parts = [
            f"{kind} AP {values['AP']:.1f}" for kind, values in scores.items() if values.get("AP") is not None
        ]
        stderr.print(f"{self._title} {iteration}: {', '.join(parts)}")

    def _left(self, iteration: int) -> str:
        done = max(1, iteration - self._start)
        seconds = round((time.monotonic() - self._since) / done * (self._total - iteration))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
