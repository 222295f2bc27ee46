"""`published` in place of a weight file: the authors' checkpoint of a preset's table row."""

from __future__ import annotations

from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.downloads.places import cached_path
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.facts import Row
from srfgan_cli.presets.tables import shipped

PUBLISHED = Path("published")
"""The word that `--weights` and all options that name an earlier stage's result or a teacher take instead of a file."""


def published_row(config: Config) -> Row | None:
    """The first row whose checkpoint the authors published; None if there is none.

    It is one of the preset's own or, where the preset evaluates another one's detector, of that one.
    """
    row = next((row for row in config.references if row.weights), None)
    if row is None and config.sources.detector is not None:
        return published_row(load_preset(config.sources.detector))
    return row


def published_file(config: Config, *, download: bool = True) -> Path:
    """The authors' checkpoint of a preset, from the cache or fetched into it.

    Args:
        config: names the rows, whose facts hold the address.
        download: False: only say where the file is or would be.

    Raises:
        InputError: the preset's row has none, or it cannot be had; says what to put where.
    """
    row = published_row(config)
    if row is None or row.weights is None:
        those = [name for name, preset in shipped().items() if published_row(preset) is not None]
        raise InputError(
            f"The authors published no weights for preset '{config.name}'. They did for: {', '.join(those)}."
        )
    if not download:
        return cached_path(row.weights)
    from srfgan_cli.downloads.cache import fetch  # brings http, without which the place is said

    return fetch(row.weights, _readable)


def describe_published(config: Config) -> str:
    """The address of a preset's published weights, and the file if it is here, for a person."""
    row = published_row(config)
    if row is None or row.weights is None:
        return "none"
    path = cached_path(row.weights)
    return f"{row.weights} ({path if path.is_file() else 'not fetched yet'})"


def _readable(path: Path) -> None:
    from srfgan.models.weights import read_checkpoint

    read_checkpoint(path)
