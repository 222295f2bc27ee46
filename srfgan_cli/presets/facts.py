"""The papers' tables as facts: every row that a preset reproduces, with its numbers. Imports no torch.

They stand in `presets/_facts/results.yaml` and nowhere else; a preset names its rows: `rows: [table1/mask_rcnn_m]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field

from srfgan import PRESETS_DIR
from srfgan.models.strict import StrictConfig
from srfgan_cli.presets.yaml_text import parse_shipped

FACTS = PRESETS_DIR / "_facts" / "results.yaml"

Percent = Annotated[float, Field(ge=0, le=100)]


class Scores(StrictConfig):
    """COCO average precisions in percent; None where a document gives no number."""

    AP: Percent | None = None
    AP50: Percent | None = None
    AP75: Percent | None = None
    APs: Percent | None = None
    APm: Percent | None = None
    APl: Percent | None = None


class Row(StrictConfig):
    """One experiment of a table: where it is printed, what the document says it is made of, and its numbers.

    What a document does not say is None; `presets/_facts/results.yaml` explains the fields.
    """

    table: str
    """For example `table1`."""
    row: str
    """What it is called in its table, as `mask_rcnn_m`."""
    document: str
    split: Literal["val2017", "test-dev"]
    detector: str
    backbone: str
    neck: str
    interpolation: str | None = None
    reuse: Literal["none", "G", "M"] | None = None
    extractor_head: str | None = None
    stages: list[str] | None = None
    freeze_generator: bool = False
    degradation: str | None = None
    levels: Literal["same", "different"] | None = None
    self_training: bool = False
    feature_enhancement: bool = False
    proposals: int | None = None
    epochs: int | None = None
    tta: bool = False
    """Whether the numbers were taken with multi-scale testing."""
    box: Scores = Scores()
    mask: Scores | None = None
    params: float | None = None
    """Millions of parameters."""
    ms: float | None = None
    """Inference time per image on a Titan Xp, milliseconds."""
    fps: float | None = None
    """Images per second at inference; its document names the device, if any does."""
    note: str | None = None
    """What one has to know to compare with the numbers."""
    weights: str | None = None
    """Address of the authors' checkpoint, or of detectron2's where the authors took that."""

    @property
    def inference_ms(self) -> float | None:
        """Milliseconds per image, whichever way the document gives the speed."""
        return 1000 / self.fps if self.ms is None and self.fps else self.ms

    @property
    def name(self) -> str:
        """How a preset names it: `table1/mask_rcnn_m`."""
        return f"{self.table}/{self.row}"

    def as_json(self) -> dict[str, Any]:
        """All that the document says of it."""
        return self.model_dump(exclude_none=True)

    def __str__(self) -> str:
        """Where it is printed, and all its numbers."""
        facts = [f"{task} {scores}" for task in ("box", "mask") if (scores := _listed(getattr(self, task)))]
        facts += [f"{self.params:g} M parameters"] if self.params else []
        facts += [f"{self.ms:g} ms"] if self.ms else []
        facts += [f"{self.fps:g} images/s"] if self.fps else []
        facts += [f"{self.proposals} proposals"] if self.proposals else []
        facts += [f"{self.epochs} epochs"] if self.epochs else []
        facts += ["multi-scale testing"] if self.tta else []
        document = "" if self.table == self.document else f"{self.document}, "
        note = f". {self.note}" if self.note else ""
        return f"{document}{self.name} ({self.split}): {'; '.join(facts) or 'no numbers'}{note}"


@dataclass(frozen=True)
class Table:
    """A table of a paper or repository.

    Attributes:
        name: for example `table1`.
        about: what it compares, in one line.
        rows: in the document's order.
    """

    name: str
    about: str
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """Name, contents and split in one line."""
        return f"{self.name}: {self.about} ({self.rows[0].split})"


@cache
def load_tables() -> dict[str, Table]:
    """All tables by name, in the order of the facts file."""
    return {name: _table(name, **table) for name, table in parse_shipped(FACTS).items()}


@cache
def load_rows() -> dict[str, Row]:
    """All rows by the names that presets give them."""
    return {row.name: row for table in load_tables().values() for row in table.rows}


def _table(
    name: str,
    *,
    document: str,
    split: str,
    about: str,
    rows: dict[str, dict[str, Any]],
    common: dict[str, Any] | None = None,
) -> Table:
    alike = {"table": name, "document": document, "split": split, **(common or {})}
    return Table(name, about, tuple(Row(row=row, **alike, **facts) for row, facts in rows.items()))


def _listed(scores: Scores | None) -> str:
    given = scores.model_dump(exclude_none=True) if scores else {}
    return ", ".join(f"{metric} {value:.1f}" for metric, value in given.items())
