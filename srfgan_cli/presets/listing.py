"""What `srfgan presets list` says of each preset, written down in the package: to say it takes no config."""

from __future__ import annotations

from dataclasses import dataclass

from srfgan import PRESETS_DIR
from srfgan_cli.presets.facts import Row, load_tables
from srfgan_cli.presets.yaml_text import parse_shipped

LIST = PRESETS_DIR / "_facts" / "list.yaml"


@dataclass(frozen=True)
class Listed:
    """A preset in the list.

    Attributes:
        preset: its name.
        what: `describe`'s line.
        row: what it reproduces in this table; None where it is no row of any.
    """

    preset: str
    what: str
    row: Row | None


def listed() -> dict[str, list[Listed]]:
    """The presets of each table, in its rows' order, and under the name "" those of none."""
    presets = parse_shipped(LIST)
    found = {
        name: [
            Listed(preset, said["what"], row)
            for row in table.rows
            for preset, said in presets.items()
            if row.name in said["rows"]
        ]
        for name, table in load_tables().items()
    }
    return found | {
        "": [Listed(name, said["what"], None) for name, said in presets.items() if not said["rows"]]
    }
