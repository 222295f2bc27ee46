"""What a check of a data set found, for a terminal, for json, and as the error that stops a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

from srfgan.models.errors import InputError
from srfgan_cli.data.overview import Overview
from srfgan_cli.screen.console import stderr, styled

Fate = Literal[
    "stops",
    "dropped",
    "counted as missed",
    "clipped",
    "boxes only",
    "the box's area",
    "read as 0",
    "read as 1",
    "used as it is",
]
SHOWN = 10
"""How many offenders of each kind are named."""


@dataclass(frozen=True)
class Problem:
    """One kind of problem.

    Attributes:
        kind: what is wrong.
        fate: what happens: the run `stops`, the annotation, image or polygon is `dropped`, the object is `counted as
            missed` where it is scored, the box or polygon is `clipped`, it counts for `boxes only`, it gets another
            value, or it is `used as it is`, which may not be what was meant.
        count: how many annotations or images have it.
        first: the first ten of them, by annotation id, image id and file.
    """

    kind: str
    fate: Fate
    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All problems of one annotation file.

    Attributes:
        path: the json file, or what has the annotations in another layout.
        images: how many images it lists.
        annotations: how many annotations it lists.
        problems: the kinds found, the ones that stop first.
        overview: what the file holds, if it was counted.
        layout: of the data set.
    """

    path: Path
    images: int
    annotations: int
    problems: tuple[Problem, ...]
    overview: Overview | None = None
    layout: str = "COCO"

    @property
    def fatal(self) -> bool:
        """Whether nothing can be trained or evaluated on this data."""
        return any(problem.fate == "stops" for problem in self.problems)

    def extended(self, problems: Sequence[Problem]) -> Report:
        """The same report with more problems."""
        together = sorted([*self.problems, *problems], key=lambda problem: problem.fate != "stops")
        return replace(self, problems=tuple(together))

    def table(self) -> Group | Text:
        """The report for a terminal; a single line where there is no problem."""
        title = f"{self.path}: {self.images} images, {self.annotations} annotations"
        title += "" if self.layout == "COCO" else f" in {self.layout} layout"
        if not self.problems:
            return styled(f"{title}, no problems")
        table = Table("problem", "count", "what happens", "first offenders", show_lines=True)
        for problem in self.problems:
            more = [f"... and {problem.count - SHOWN} more"] if problem.count > SHOWN else []
            offenders = styled("\n".join([*problem.first, *more]))
            fate = styled((problem.fate, "red" if problem.fate == "stops" else "yellow"))
            table.add_row(problem.kind, str(problem.count), fate, offenders)
        return Group(styled(title), table)

    def tell(self) -> None:
        """Say on stderr what a check found, and as what a data set was recognised that is not in COCO's format."""
        if self.problems or self.layout != "COCO":
            stderr.print(self.table())

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        problems = [{**vars(problem), "first": list(problem.first)} for problem in self.problems]
        return {
            "file": str(self.path),
            "layout": self.layout,
            "images": self.images,
            "annotations": self.annotations,
            "fatal": self.fatal,
            "problems": problems,
        } | ({"overview": self.overview.as_json()} if self.overview else {})

    def raise_if_fatal(self, check: str | None = None) -> None:
        """Raise an InputError that names the first offenders of every fatal kind.

        Args:
            check: the arguments of `srfgan data check` that show them all, if there are any.
        """
        lines = [
            f"  {problem.kind} ({problem.count}): {'; '.join(problem.first[:3])}"
            + ("; ..." if problem.count > 3 else "")
            for problem in self.problems
            if problem.fate == "stops"
        ]
        if lines:
            hint = "put this right first" + (
                f"; `srfgan data check {check}` shows the whole list" if check else ""
            )
            raise InputError("\n".join([f"{self.path}: the data set cannot be used:", *lines, f"  {hint}"]))
