"""The progress bar over all jobs of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from srfgan_cli.reproduction.cost import work
from srfgan_cli.reproduction.graph import Graph, Job
from srfgan_cli.reproduction.jobs import JobFolder
from srfgan_cli.reproduction.process import RunningJob
from srfgan_cli.screen.console import stderr
from srfgan_cli.screen.progress import WordsColumn


class Overall:
    """What is done of a table's jobs, in units of their estimated cost."""

    def __init__(self, graph: Graph, progress: Progress, folders: Mapping[str, JobFolder]) -> None:
        todo = [job for job in graph.jobs.values() if folders[job.key].state(job) != "done"]
        self.jobs = len(graph.jobs)
        self.left = {job.key: work(job) for job in todo}
        self.ended = 0.0
        self.progress = progress
        self.task: TaskID = progress.add_task("", total=sum(self.left.values()), job="")

    def begin(self, running: RunningJob) -> None:
        """A job has started."""
        if not self.progress.console.is_terminal:
            stderr.print(f"{running.number}/{self.jobs} {_name(running.job)}", soft_wrap=True)

    def update(self, running: Sequence[RunningJob]) -> None:
        """Show how far the running jobs have come."""
        if not running:
            return
        reached = [
            (one, one.folder.last_iteration, one.job.solver.iterations if one.job.solver else 0)
            for one in running
        ]
        done = sum(self.left[one.job.key] * at / total for one, at, total in reached if total)
        counts = [f"{at}/{total}" if total else "" for _, at, total in reached]
        described = (
            f"{_name(running[0].job)}  {counts[0]}"
            if len(running) == 1
            else "  ".join(
                f"#{one.number} {one.job.kind} {count}" for one, count in zip(running, counts, strict=True)
            )
        )
        numbers = ",".join(str(one.number) for one in running)
        self.progress.update(
            self.task, description=f"{numbers}/{self.jobs}", completed=self.ended + done, job=described
        )

    def end(self, job: Job) -> None:
        """A job has ended, well or not, or will not run."""
        self.ended += self.left.pop(job.key, 0.0)
        self.progress.update(self.task, completed=self.ended)


@contextmanager
def overall_progress(graph: Graph, folders: Mapping[str, JobFolder]) -> Iterator[Overall]:
    """The bar on stderr, with time passed and left."""
    bar = Progress(
        WordsColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        WordsColumn("job"),
        console=stderr,
        refresh_per_second=2,
    )
    with bar:
        yield Overall(graph, bar, folders)


def _name(job: Job) -> str:
    model = job.config.model
    return f"{job.kind} {model.detector} {model.neck.name} {model.neck.upsampler}, seed {job.config.seed}"
