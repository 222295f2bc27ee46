"""`solver.recompute`: activation checkpointing of a stage's generator and discriminator."""

from __future__ import annotations

from srfgan.models.discriminator import Discriminator
from srfgan.models.errors import InputError
from srfgan.models.upsamplers.generators import AFIGenerator, SRFGenerator
from srfgan_cli.training.stage import Stage


def recompute_activations(stage: Stage) -> None:
    """Let the generator and the discriminator of a stage keep what their parts are given, and nothing else.

    Raises:
        InputError: the stage trains neither.
    """
    layers = [layer for module in stage.modules.values() for layer in module.modules()]
    networks = [layer for layer in layers if isinstance(layer, Discriminator | SRFGenerator | AFIGenerator)]
    if not networks:
        raise InputError(
            "solver.recompute: nothing to compute again, as this stage trains no generator and no discriminator. "
            "Leave it out; --set finetune.solver.accumulate=2 and --batch-size need less memory for any detector."
        )
    for network in networks:
        network.recompute = True
