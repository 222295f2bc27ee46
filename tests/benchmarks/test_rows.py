"""The page of the papers' rows is what the facts and the presets say."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_rows_is_of_today(capsys):
    runpy.run_path(str(ROOT / "benchmarks" / "rows.py"), run_name="__main__")
    assert (ROOT / "docs" / "rows.md").read_text() == capsys.readouterr().out, (
        "python benchmarks/rows.py > docs/rows.md"
    )
