"""Preset files of version 0.1, which stated a row's numbers where they name the row now. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srfgan_cli.presets.facts import Row, load_rows
from srfgan_cli.screen.console import stderr


def naming_rows(values: dict[str, Any], where: Path) -> dict[str, Any]:
    """A preset's values, with the names of the rows that an old file's `references` state in place of those.

    Says so where a reference is in none of the tables, as one of the user's own: it is not shown any more. Rows of
    equal numbers (table 5's first two) are told apart by no file of that version: the first one is meant.
    """
    if "references" not in values:
        return values
    references = values["references"]
    stated = references if isinstance(references, list) else [references]
    found = [next((row.name for row in load_rows().values() if _is(row, one)), None) for one in stated]
    if None in found:
        stderr.print(
            f"{where}: references: not read any more, and not a row of the papers' tables. A preset names the rows "
            "whose numbers stand beside its own: rows: [table1/mask_rcnn_m] (`srfgan presets list`)."
        )
    kept = {key: value for key, value in values.items() if key != "references"}
    return {"rows": [name for name in found if name is not None]} | kept


def _is(row: Row, reference: Any) -> bool:
    if not isinstance(reference, dict) or reference.get("table") != row.table:
        return False
    facts = row.as_json() | {"name": reference.get("name")}
    named = str(reference.get("name", row.row)).lower() == row.row
    return named and all(facts.get(key) == value for key, value in reference.items())
