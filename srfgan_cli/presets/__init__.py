"""Presets: the recipes of the papers' rows as typed configs, and the papers' tables as facts. Imports no torch."""

from srfgan_cli.presets.library import list_presets, load_preset

__all__ = ["list_presets", "load_preset"]
