"""What the presets' detectors cost, which `benchmarks/costs.py` has counted: to say it takes no torch."""

from __future__ import annotations

from functools import cache

from srfgan import PRESETS_DIR
from srfgan.models.cost import Cost
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.library import list_presets, load_preset
from srfgan_cli.presets.yaml_text import parse_shipped

COSTS = PRESETS_DIR / "_facts" / "costs.yaml"


@cache
def shipped_costs() -> dict[str, Cost]:
    """The cost of each shipped preset's detector by the preset's name."""
    return {name: Cost(*counts) for name, counts in parse_shipped(COSTS).items()}


def cost_of_preset(config: Config) -> Cost:
    """The cost of an experiment's detector: looked up where it is a shipped preset's own, otherwise counted."""
    if config.name in list_presets() and config.model == load_preset(config.name).model:
        return shipped_costs()[config.name]
    from srfgan.models.count import cost_of  # brings torch

    return cost_of(config.model)
