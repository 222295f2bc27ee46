"""The papers' tables as facts: every row that a preset reproduces. Imports no torch.

The rows are read from `presets/_facts/results.yaml`; which preset reproduces a row is said by the preset's
`references`, and tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from srfgan_cli.presets.config import Config, Interpolation, ReferenceConfig, StageName
from srfgan_cli.presets.library import PRESETS_DIR, list_presets, load_preset
from srfgan_cli.presets.yaml_text import read_yaml

FACTS = PRESETS_DIR / "_facts" / "results.yaml"


class Row(ReferenceConfig):
    """One experiment of a table: its numbers, and what the document says it is made of.

    What a document does not say is None; `presets/_facts/results.yaml` explains the fields.
    """

    detector: str
    backbone: str
    neck: str
    interpolation: str | None = None
    reuse: Literal["none", "G", "M"] | None = None
    extractor_head: str | None = None
    stages: list[StageName] | None = None
    freeze_generator: bool = False
    degradation: Interpolation | None = None
    levels: Literal["same", "different"] | None = None
    self_training: bool = False
    feature_enhancement: bool = False
    proposals: int | None = None

    @property
    def reference(self) -> ReferenceConfig:
        """The row as a preset states it: where it is printed, and its numbers."""
        return ReferenceConfig.model_validate(self.model_dump(include=set(ReferenceConfig.model_fields)))


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


@dataclass(frozen=True)
class Entry:
    """A preset as the reproduction of one row."""

    preset: str
    config: Config
    reference: ReferenceConfig


@cache
def load_tables() -> dict[str, Table]:
    """All tables by name, in the order of the facts file."""
    return {name: _table(name, **facts) for name, facts in read_yaml(FACTS).items()}


@cache
def entries_by_table() -> dict[str, list[Entry]]:
    """The presets of each table, in its rows' order; under "" those that reproduce no row."""
    found: dict[str, list[Entry]] = {name: [] for name in (*load_tables(), "")}
    for preset in list_presets():
        config = load_preset(preset)
        for reference in config.references or [ReferenceConfig(table="")]:
            found[reference.table].append(Entry(preset, config, reference))
    for name, table in load_tables().items():
        order = [row.reference for row in table.rows]
        found[name].sort(key=lambda entry: order.index(entry.reference))
    return found


def _table(
    name: str, *, document: str, split: str, about: str, rows: list[dict], common: dict | None = None
) -> Table:
    where = {"table": name, "document": document, "split": split}
    return Table(name, about, tuple(Row.model_validate({**where, **(common or {}), **row}) for row in rows))
