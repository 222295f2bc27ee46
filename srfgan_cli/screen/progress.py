"""The progress bar of every long command: what, how far, time spent, time left; on stderr."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from srfgan_cli.screen.console import stderr, styled


class WordsColumn(ProgressColumn):
    """What a task is called, or what one of its fields says, as it is."""

    def __init__(self, field: str | None = None) -> None:
        super().__init__()
        self._field = field

    def render(self, task: Task) -> Text:
        """The text of the moment."""
        return styled((task.description, "bold")) if self._field is None else styled(task.fields[self._field])


def progress_bar(*more: ProgressColumn, show: bool = True) -> Progress:
    """A bar with the usual columns and `more` after them.

    Args:
        more: columns of the command's own.
        show: whether to draw it at all, as on the main process only.
    """
    return Progress(
        WordsColumn(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *more,
        console=stderr,
        disable=not show,
    )
