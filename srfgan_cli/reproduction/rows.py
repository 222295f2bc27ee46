"""The rows of a table to reproduce, and what each is compared with. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from srfgan.models.errors import InputError
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.tables import Entry, entries_by_table

BASELINES = {"table6": "table6_bilinear", "table7": "table7_same", "upsamplers": "upsamplers_nn"}
"""What all rows of a table are compared with: the papers' own setting where no row is plain."""
CONTINUED = "upsamplers_nn_continued"
"""What detectors that go on from a trained one are compared with: they have seen as many images more."""
AS_MANY_IMAGES = {"upsamplers_nn_long": "upsamplers_srf"}
"""Rows whose one stage sees as many images as all the stages of another, whatever the settings make of those."""


def table_rows(table: str, only: Sequence[str] = ()) -> list[Entry]:
    """The rows of a table, in its order.

    Args:
        table: for example `table1`, or `srfgan_repository`.
        only: presets of the rows that are wanted; all by default.

    Raises:
        InputError: no such table, or a row that it does not have.
    """
    tables = entries_by_table()
    if table not in tables:
        raise InputError(f"There is no table '{table}'. Tables: {', '.join(tables)}.")
    rows = tables[table]
    unknown = [name for name in only if name not in {row.preset for row in rows}]
    if unknown:
        raise InputError(
            f"--rows: {table} has no row '{unknown[0]}'. Its rows: {', '.join(row.preset for row in rows)}."
        )
    return [row for row in rows if not only or row.preset in only]


def baseline_of(row: Entry, rows: Sequence[Entry]) -> Entry | None:
    """The row that `row` is compared with: the same detector with a plain pyramid; None where there is none.

    In a table of plain detectors that differ in their training, it is the first of them.
    """
    if row.preset != CONTINUED and row.config.finetune.start_from_guide:
        found = [other for other in rows if other.preset == CONTINUED]
    elif row.reference.table in BASELINES:
        found = [other for other in rows if other.preset == BASELINES[row.reference.table]]
    else:
        found = [other for other in rows if _is_plain(other.config) and _alike(row.config, other.config)]
    baseline = found[0] if found else None
    return None if baseline is None or baseline.preset == row.preset else baseline


def _is_plain(config: Config) -> bool:
    return config.model.neck.upsampler == "nn"


def _alike(a: Config, b: Config) -> bool:
    """Whether two experiments train the same detector for as long, but for its upsampling, and score it alike."""
    same_parts = (
        a.model.detector == b.model.detector
        and a.model.backbone == b.model.backbone
        and a.model.neck.name == b.model.neck.name
        and a.evaluation.tta.enabled == b.evaluation.tta.enabled
    )
    return same_parts and a.finetune.solver.iterations == b.finetune.solver.iterations
