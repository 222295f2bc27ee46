"""The progress bar of every long command: what, how far, time spent, time left; on stderr."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from srfgan_cli.console import stderr


def progress_bar(*more: ProgressColumn, show: bool = True) -> Progress:
    """A bar with the usual columns and `more` after them.

    Args:
        more: columns of the command's own.
        show: whether to draw it at all, as on the main process only.
    """
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *more,
        console=stderr,
        disable=not show,
    )
