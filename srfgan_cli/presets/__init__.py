"""Presets: the recipes of the papers' rows as typed configs, and the papers' tables as facts. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srfgan_cli.presets.library import list_presets, load_preset

__all__ = ["list_presets", "load_preset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # On first use: it builds the classes of all configs, without which the facts are read.
    from srfgan_cli.presets import library

    return getattr(library, name)
