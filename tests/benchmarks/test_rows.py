"""The page of the papers' rows is what the facts and the presets say; its costs are the slow tests' of all presets."""

import runpy
from collections import defaultdict
from pathlib import Path

from srfgan.models.cost import Cost
from srfgan_cli.presets.facts import load_tables
from srfgan_cli.presets.tables import entries_by_table

ROOT = Path(__file__).parents[2]
COUNTED = (3, 5)
"""Cells that are counted, of what lies between the bars of a line."""


def told(line: str) -> list[str]:
    return [cell for place, cell in enumerate(line.split("|")) if place not in COUNTED]


def test_the_page_of_rows_is_of_today():
    made = runpy.run_path(str(ROOT / "benchmarks" / "rows.py"))
    uncounted = defaultdict(lambda: Cost(0, 0, 0, 0))
    page = made["HEAD"]
    for name, table in load_tables().items():
        page += "\n" + "\n".join(made["section"](table, entries_by_table()[name], uncounted))
    written = (ROOT / "docs" / "rows.md").read_text()
    assert [told(line) for line in written.splitlines()] == [told(line) for line in page.splitlines()], (
        "python benchmarks/rows.py > docs/rows.md"
    )
