"""Which presets reproduce the rows of which table. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from srfgan_cli.presets.config import Config
from srfgan_cli.presets.facts import Row, load_tables
from srfgan_cli.presets.library import list_presets, load_preset


@dataclass(frozen=True)
class Entry:
    """A preset as the reproduction of one row."""

    preset: str
    config: Config
    reference: Row


@cache
def shipped() -> dict[str, Config]:
    """All shipped presets by name."""
    return {name: load_preset(name) for name in list_presets()}


@cache
def entries_by_table() -> dict[str, list[Entry]]:
    """The presets of each table, in its rows' order."""
    return {
        name: [
            Entry(preset, config, row)
            for row in table.rows
            for preset, config in shipped().items()
            if row.name in config.rows
        ]
        for name, table in load_tables().items()
    }
