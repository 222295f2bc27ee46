"""Stage 2, the multi-scale SRF extractor: a detector with G in its neck, guided by F and judged by D."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfgan.models.detector import Detector
from srfgan.models.structures import Target
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets.config import AdversarialConfig, ExtractConfig, Interpolation
from srfgan_cli.training.adversarial import (
    Adversary,
    Judge,
    Maps,
    adversarial_terms,
    content_loss,
    paired,
)
from srfgan_cli.training.optim import build_optimizer
from srfgan_cli.training.pairs import INTERPOLATION_MODES, halve, halve_targets
from srfgan_cli.training.pretrain import guide_maps, require_normalisable


class ExtractorLosses(nn.Module):
    """Equation (3) with M's detection losses: L_INT = L_DET + L_L1 + lambda * L_adv."""

    def __init__(self, detector: Detector, config: AdversarialConfig, pairing: str) -> None:
        super().__init__()
        self.detector = detector
        self.config = config
        self.pairing = pairing

    def forward(
        self, images: list[Tensor], targets: list[Target], real: Maps, judge: Judge | None
    ) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        """The named losses; D's logits of the fake maps, or windows, and the real ones, for its own step.

        Without a judge there is no adversarial term, and nothing for D.
        """
        batch, sizes = self.detector.preprocess(images)
        pyramid = self.detector.pyramid(batch)
        fake, target = paired(self._super_resolved(pyramid, list(real)), real)
        losses: dict[str, Tensor] = self.detector.losses_from_pyramid(pyramid, sizes, targets)
        losses["loss_content"] = content_loss(fake, target)
        adversarial, logits, windows = adversarial_terms(fake, target, self.config, judge)
        return losses | adversarial, logits, windows

    def _super_resolved(self, pyramid: Maps, levels: list[str]) -> Maps:
        if self.pairing == "same":
            return {level: pyramid[level] for level in levels}
        upsample = self.detector.upsample
        return {level: upsample(pyramid[_above(level)]) for level in levels}


class ExtractStage:
    """Trains M (with G inside) and D, where there is one; the guide F is frozen and in evaluation mode."""

    def __init__(
        self,
        guide: Detector,
        detector: Detector,
        discriminator: nn.Module | None,
        config: ExtractConfig,
        degradation: Interpolation,
        world: World,
    ) -> None:
        self.guide = guide.requires_grad_(False).to(world.device)
        self.detector: Detector | None = detector.to(world.device)
        self._adversary = Adversary(discriminator, config.adversarial, world)
        self.modules = {"detector": detector, **self._adversary.modules}
        self.optimizers = {
            name: build_optimizer(module, config.solver) for name, module in self.modules.items()
        }
        self._config = config
        self._degradation = degradation
        self._coarsest = max(*config.adversarial.levels, detector.config.coarsest_upsampled)
        losses = ExtractorLosses(detector, config.adversarial, config.pairing)
        self._extractor_losses = world.parallel(losses)
        self.parallel = [self._extractor_losses, *self._adversary.parallel]

    def train(self) -> None:
        """M and D in training mode, F in evaluation mode."""
        self.guide.eval()
        for module in self.modules.values():
            module.train()

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """L_INT of equation (3), then both parts of L_D, equation (1), on the same maps."""
        images, targets, real = self._inputs(batch)
        losses, logits, target = self._extractor_losses(images, targets, real, self._adversary.judge)
        yield losses
        yield from self._adversary.losses(logits, target)

    def _inputs(self, batch: Batch) -> tuple[list[Tensor], list[Target], Maps]:
        """M's images and targets, and the maps of F that its own are compared with."""
        with torch.no_grad():
            real = guide_maps(self.guide, batch.images, self._config.adversarial.levels)
            if self._config.pairing == "different":
                return batch.images, batch.targets, real
            reduction = self._config.reduction or self._degradation
            real = {level: halve_map(features, reduction) for level, features in real.items()}
        images = halve(batch.images, self._degradation)
        require_normalisable(images, self._coarsest)
        return images, halve_targets(batch.targets), real


def halve_map(features: Tensor, degradation: Interpolation) -> Tensor:
    """down(P_i^tr) of equation (3): (N, C, H, W) to (N, C, floor(H/2), floor(W/2)), at least one pixel.

    As in `halve`, the scale is exactly one half: an odd last row or column is left out.
    """
    height, width = (max(1, side // 2) for side in features.shape[-2:])
    mode = INTERPOLATION_MODES[degradation]
    align = None if mode == "nearest" else False
    even = features[..., : 2 * height, : 2 * width]
    return F.interpolate(even, (height, width), mode=mode, align_corners=align)


def _above(level: str) -> str:
    return f"p{int(level[1:]) + 1}"
