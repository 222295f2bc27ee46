"""The two regularisers of *Feature Enhancement for Object Detectors* on a ResNet's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srfgan.models.errors import InputError
from srfgan_cli.presets.config import FeatureEnhancementConfig

_EARLY, _LATE = "layer2", "layer4"
"""timm's and torchvision's names of res3 and res5."""


def check_trained(backbone: nn.Module) -> None:
    """Raise InputError if a parameter that the regularisers are of is frozen: they would change nothing."""
    for stage in (_EARLY, _LATE):
        for name, parameter in backbone.get_submodule(f"body.{stage}").named_parameters():
            if not parameter.requires_grad:
                raise InputError(
                    f"finetune.feature_enhancement trains res3 and res5, but finetune.freeze freezes "
                    f"backbone.body.{stage}.{name}; leave out one of the two."
                )


def enhancement_losses(backbone: nn.Module, config: FeatureEnhancementConfig) -> dict[str, Tensor]:
    """l2 * sum over res5's parameters p of ||p||_2, and minus variance * sum over res3's of var(p).

    The norm is not squared and the variance unbiased, as in the authors' last version. Only parameters count: a
    frozen norm's scale and shift are buffers. The second loss is negative and has no lower bound.

    Args:
        backbone: a ResNet; its weights are float32 under autocast too.
        config: the two weights.

    Returns:
        Scalars `loss_fe_l2` and `loss_fe_variance`, float32.
    """
    early, late = (list(backbone.get_submodule(f"body.{stage}").parameters()) for stage in (_EARLY, _LATE))
    norms = torch.stack([torch.linalg.vector_norm(p) for p in late]).sum()
    variances = torch.stack([p.var() for p in early]).sum()
    return {"loss_fe_l2": config.l2 * norms, "loss_fe_variance": -config.variance * variances}
