"""Who needs whose result: stage 1 trains G on F's pyramid, stage 2 M with G inside, stage 3 takes over G or M."""

from __future__ import annotations

from typing import Literal

from srfgan.models.errors import InputError
from srfgan_cli.presets.config import Config, StageName

SourceName = Literal["guide", "generator", "extractor", "distill"]
"""F, G, M, and a larger G that this one is distilled from."""


def source_presets(config: Config) -> dict[SourceName, tuple[StageName, str]]:
    """The stage and the preset whose run gives F, G, M or a larger G, wherever this preset's stages need it."""
    sources = config.sources
    return {
        "guide": ("finetune", config.guide),
        "generator": ("pretrain", sources.generator or config.name),
        "extractor": ("extract", sources.extractor or config.name),
        "distill": ("pretrain", sources.distill or config.name),
    }


def option_of(source: SourceName, stage: StageName) -> str:
    """The option, without its dashes, that names the file; stage 3 starts from F as from any detector's weights."""
    return "weights" if source == "guide" and stage == "finetune" else source


def needed_sources(config: Config, stage: StageName) -> tuple[SourceName, ...]:
    """Which of them a stage reads where no option says otherwise."""
    if stage == "pretrain":
        return ("guide",) if config.pretrain.distill is None else ("guide", "distill")
    if stage == "extract":
        return ("guide", "generator")
    return (*(("guide",) if config.finetune.start_from_guide else ()), *_reused(config))


def require_distilled(config: Config, how: str) -> None:
    """Whether a preset says from which other's generator its own learns.

    Args:
        how: what names one, as a command takes it.

    Raises:
        InputError: it does not: it would be its own.
    """
    if config.sources.distill is None:
        raise InputError(
            f"Preset '{config.name}' learns from a trained generator (pretrain.distill) and names none: give it with "
            f"{how}. --set pretrain.distill=null trains without."
        )


def _reused(config: Config) -> tuple[SourceName, ...]:
    reuse = config.finetune.reuse
    if reuse == "none":
        return ()
    return ("extractor",) if reuse == "M" or "extract" in config.stages else ("generator",)
