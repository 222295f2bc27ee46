"""The paper's row that an evaluation is shown beside."""

from __future__ import annotations

from srfgan_cli.data.split_files import Split
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.facts import Row


def reference_of(config: Config, split: Split, *, published: bool) -> Row | None:
    """The row scored in the same way, and on the same split or, for the authors' weights, by them."""
    rows = [row for row in config.references if row.tta == config.evaluation.tta.enabled]
    if published:
        return next((row for row in rows if row.weights), rows[0] if rows else None)
    wanted = "test-dev" if split == "test" else "val2017"
    return next((row for row in rows if row.split == wanted), None)
