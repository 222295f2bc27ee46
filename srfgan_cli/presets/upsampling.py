"""What stage 3 is told of an upsampler, where several experiments are changed alike and some have no such one."""

from __future__ import annotations

from typing import Any

from srfgan.models.upsamplers import GENERATORS, WITHOUT_WEIGHTS
from srfgan_cli.presets.config import Config


def without_absent(config: Config) -> tuple[Config, list[str]]:
    """The experiment without what its stage 3 is told of an upsampler that it has not, and these keys.

    A training refuses them: `recompute` without a generator, and patterns that name the upsampler's parameters where it
    has none. It leads to the same weights without them.
    """
    upsampler, stage = config.model.neck.upsampler, config.finetune
    update: dict[str, Any] = {}
    left_out = []
    if stage.solver.recompute and upsampler not in GENERATORS:
        update["solver"] = stage.solver.model_copy(update={"recompute": False})
        left_out.append("finetune.solver.recompute")
    patterns = {pattern for pattern in (*stage.freeze, *stage.lr_factors) if _is_of_upsampler(pattern)}
    if patterns and upsampler in WITHOUT_WEIGHTS:
        update["freeze"] = [pattern for pattern in stage.freeze if pattern not in patterns]
        update["lr_factors"] = {key: value for key, value in stage.lr_factors.items() if key not in patterns}
        left_out += [f"{pattern} of finetune.freeze and lr_factors" for pattern in sorted(patterns)]
    return config.model_copy(update={"finetune": stage.model_copy(update=update)}), left_out


def _is_of_upsampler(pattern: str) -> bool:
    """Whether a pattern of parameters' names can match the upsampler's alone, in every neck."""
    return pattern.startswith("neck.upsample")
