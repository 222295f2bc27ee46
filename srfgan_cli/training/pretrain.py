"""Stage 1, SRF-GAN: the generator and the discriminator against a frozen detector's pyramid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets.config import AdversarialConfig, Interpolation, SolverConfig
from srfgan_cli.training.adversarial import (
    Adversary,
    Judge,
    Maps,
    adversarial_terms,
    content_loss,
    paired,
)
from srfgan_cli.training.optim import build_optimizer
from srfgan_cli.training.pairs import halve


class GeneratorLosses(nn.Module):
    """Equation (2): G reproduces the original image's maps from the half-size image's.

    Args:
        generator: G.
        config: of the adversarial term.
        distill_weight: of the term that compares G's maps with a trained generator's.
    """

    def __init__(
        self, generator: nn.Module, config: AdversarialConfig, distill_weight: float | None = None
    ) -> None:
        super().__init__()
        self.generator = generator
        self.config = config
        self.distill_weight = distill_weight

    def forward(
        self, low: Maps, real: Maps, judge: Judge | None, taught: Maps | None = None
    ) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        """The named losses; D's logits of the fake maps, or windows, and the real ones, for its own step.

        Without a judge there is no adversarial term, and nothing for D. `taught` are the trained generator's maps of
        `low`.
        """
        generated = {level: self.generator(features) for level, features in low.items()}
        fake, target = paired(generated, real)
        losses = {"loss_content": content_loss(fake, target)}
        if self.distill_weight is not None and taught is not None:
            losses["loss_distill"] = self.distill_weight * content_loss(*paired(generated, taught))
        adversarial, logits, windows = adversarial_terms(fake, target, self.config, judge)
        return losses | adversarial, logits, windows


@dataclass(frozen=True)
class Distillation:
    """A trained generator, as a larger one, whose maps G comes near too, and the weight of that term."""

    teacher: nn.Module
    weight: float


class PretrainStage:
    """Trains G and D; the guide F, and the generator to learn from, are frozen and in evaluation mode.

    Without a discriminator G learns by L1 alone.
    """

    detector: Detector | None = None

    def __init__(
        self,
        guide: Detector,
        generator: nn.Module,
        discriminator: nn.Module | None,
        adversarial: AdversarialConfig,
        degradation: Interpolation,
        solver: SolverConfig,
        world: World,
        distillation: Distillation | None = None,
    ) -> None:
        self.guide = guide.requires_grad_(False).to(world.device)
        self.teacher = (
            None if distillation is None else world.place(distillation.teacher.requires_grad_(False))
        )
        self._adversary = Adversary(discriminator, adversarial, world)
        self.modules = {"generator": world.place(generator), **self._adversary.modules}
        self.optimizers = {name: build_optimizer(module, solver) for name, module in self.modules.items()}
        self._levels: Sequence[str] = adversarial.levels
        self._degradation = degradation
        weight = None if distillation is None else distillation.weight
        self._generator_losses = world.parallel(GeneratorLosses(generator, adversarial, weight))
        self.parallel = [self._generator_losses, *self._adversary.parallel]

    def train(self) -> None:
        """G and D in training mode, F and the generator to learn from in evaluation mode."""
        self.guide.eval()
        if self.teacher is not None:
            self.teacher.eval()
        for module in self.modules.values():
            module.train()

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """L_G of equation (2), then both parts of L_D, equation (1); G, and D on each map, run once."""
        with torch.no_grad():
            real = guide_maps(self.guide, batch.images, self._levels)
            halves = halve(batch.images, self._degradation)
            require_normalisable(halves, max(self._levels))
            low = guide_maps(self.guide, halves, self._levels)
            taught = None if self.teacher is None else {name: self.teacher(x) for name, x in low.items()}
        losses, logits, target = self._generator_losses(low, real, self._adversary.judge, taught)
        yield losses
        yield from self._adversary.losses(logits, target)


def guide_maps(guide: Detector, images: list[Tensor], levels: Sequence[str]) -> Maps:
    """F's maps of the images at the given levels, {level: (N, C, H, W)}.

    Raises:
        InputError: F has no such level.
    """
    absent = [level for level in levels if level not in guide.config.levels]
    if absent:
        raise InputError(
            f"The guide, a {guide.config.detector}, has the levels {', '.join(guide.config.levels)} and no "
            f"{absent[0]}. Give a guide that has it, or change adversarial.levels."
        )
    batch, _ = guide.preprocess(images)
    pyramid = guide.pyramid(batch)
    return {level: pyramid[level] for level in levels}


def require_normalisable(images: list[Tensor], coarsest: str) -> None:
    """The batch norms of G and D need more than one value per channel, also at the coarsest level they see.

    Raises:
        InputError: the map of that level is a single pixel.
    """
    stride = 2 ** int(coarsest.removeprefix("p"))
    rows, columns = (max(-(-image.shape[axis] // stride) for image in images) for axis in (-2, -1))
    if len(images) * rows * columns < 2:
        height, width = images[0].shape[-2:]
        raise InputError(
            f"A half-size image of {width}x{height} has a single pixel at {coarsest}, too little to train a "
            "generator on. Use larger images (data.short_sides) or more images per process (--batch-size)."
        )
