"""Any network of timm's that has feature maps at strides 4, 8, 16 and 32, as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from srfgan.models.backbones.anatomy import LEVELS, Anatomy, anatomy_of
from srfgan.models.backbones.timm_norms import settle_norms
from srfgan.models.config import BackboneConfig
from srfgan.models.errors import InputError


class TimmBackbone(nn.Module):
    """A timm network that gives {"res2", "res3", "res4", "res5"}.

    A network whose norms are layer norms (ConvNeXt, Swin) ends each output with another one, as its published
    detectors do.

    Args:
        config: its name, `timm/NAME`. `freeze_at` 1 freezes what comes before stride 4, 2 all that res2 rests on, and
            so on. `norm` concerns batch norms; `stride_in_1x1` does not apply.
        levels: the outputs; one that no neck takes would leave its norm without a gradient.
        body: the network of that name from `create_body`, with weights; by default one with random weights.

    Attributes:
        body: timm's feature extractor, its batch norms joined to their convolutions where one follows the other.
        norms: the layer norm of each output, or none.
        channels: channels of each output.

    Raises:
        InputError: timm has no such network, or it cannot be a backbone.
    """

    body: Any

    def __init__(
        self, config: BackboneConfig, levels: Sequence[str] = tuple(LEVELS), body: nn.Module | None = None
    ) -> None:
        super().__init__()
        name = config.timm_name
        assert name is not None
        anatomy = anatomy_of(name)
        self.body = body or create_body(name)
        self.channels = {level: anatomy.channels[level] for level in levels}
        self.norms = nn.ModuleDict(
            {level: nn.LayerNorm(width) for level, width in self.channels.items()}
            if _has_layer_norms(self.body)
            else {}
        )
        self._channels_last = anatomy.channels_last
        _freeze(self.body, anatomy, config, levels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W), sides multiples of 32, to feature maps (N, C, H/s, W/s), s = 4, 8, 16, 32."""
        maps = dict(zip(LEVELS, self.body(x), strict=True))
        return {level: self._ended(level, maps[level]) for level in self.channels}

    def _ended(self, level: str, x: Tensor) -> Tensor:
        if not self.norms:
            return x.permute(0, 3, 1, 2) if self._channels_last else x
        x = self.norms[level](x if self._channels_last else x.permute(0, 2, 3, 1))
        return x.permute(0, 3, 1, 2)


def create_body(name: str) -> Any:
    """timm's feature extractor with the four levels, under timm's names, with random weights.

    Raises:
        InputError: timm has no such network, or it cannot be a backbone.
    """
    anatomy = anatomy_of(name)
    indices = tuple(anatomy.indices.values())
    return timm.create_model(name, features_only=True, out_indices=indices, **anatomy.options)


def _has_layer_norms(body: nn.Module) -> bool:
    kinds = [type(module) for module in body.modules()]
    return not any(issubclass(kind, _NormBase) for kind in kinds) and any(
        issubclass(kind, nn.LayerNorm) for kind in kinds
    )


def _freeze(body: nn.Module, anatomy: Anatomy, config: BackboneConfig, levels: Sequence[str]) -> None:
    frozen = _frozen_parameters(anatomy, config)
    used = frozenset().union(*(anatomy.behind[level] for level in levels))
    for name, parameter in body.named_parameters():
        # What no output rests on would never see a gradient, for which several processes would wait.
        parameter.requires_grad_(name in used and name not in frozen)
    all_norms = config.norm == "frozen_bn"
    if (all_norms or frozen) and any(isinstance(module, nn.BatchNorm1d) for module in body.modules()):
        raise InputError(
            f"model.backbone: {config.name} has batch norms over tokens, which cannot be frozen; take norm bn and "
            "freeze_at 0"
        )
    settle_norms(body, anatomy.joints, lambda norm: all_norms or f"{norm}.weight" in frozen)


def _frozen_parameters(anatomy: Anatomy, config: BackboneConfig) -> frozenset[str]:
    if config.freeze_at == 0:
        return frozenset()
    if config.freeze_at > 1:
        return anatomy.behind[f"res{config.freeze_at}"]
    if anatomy.stem is None:
        raise InputError(
            f"model.backbone.freeze_at: no stem can be told apart in {config.name}; freeze from 2 on, or nothing with 0"
        )
    return anatomy.stem
