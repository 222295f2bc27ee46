"""Names of timm's networks, and what timm says of each."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import timm

from srfgan.models.config import TIMM, ModelConfig, PixelConfig
from srfgan.models.errors import InputError


def check_name(name: str) -> None:
    """Whether timm has a network `name`, a plain name or one with the tag of its weights behind a dot.

    Raises:
        InputError: it has not; gives the closest ones.
    """
    plain, dot, tag = name.partition(".")
    if not timm.is_model(plain):
        close = _did_you_mean(plain, timm.list_models())
        raise InputError(f"model.backbone.name: timm has no network '{plain}'.{close}")
    tags = [found.partition(".")[2] for found in timm.list_pretrained(f"{plain}.*")]
    if dot and tag not in tags:
        known = f"has {', '.join(tags)}" if tags else "has none"
        raise InputError(f"model.backbone.name: timm has no weights '{tag}' of {plain}; it {known}.")


def with_own_pixels(config: ModelConfig) -> ModelConfig:
    """`config` with what timm trains its backbone `timm/NAME` on, RGB of timm's mean and standard deviation, wherever
    `pixel` does not say otherwise; with another backbone as it is.

    Raises:
        InputError: timm has no such network.
    """
    name, given = config.backbone.timm_name, config.pixel.model_dump(exclude_unset=True)
    if name is None or not config.leaves_pixels_to_timm:
        return config
    check_name(name)
    known: Any = timm.get_pretrained_cfg(name)
    own: dict[str, Any] = {"order": given.get("order", "RGB")}
    for key, values in (("mean", known.mean), ("std", known.std)):
        scaled = [round(255 * value, 6) for value in values]
        own[key] = scaled if own["order"] == "RGB" else scaled[::-1]
    return config.model_copy(update={"pixel": PixelConfig(**(own | given))})


def _did_you_mean(name: str, options: Sequence[str]) -> str:
    close = [f"'{TIMM}{option}'" for option in get_close_matches(name[:100], options, n=3, cutoff=0.6)]
    return f" Did you mean {' or '.join(close)}?" if close else ""
