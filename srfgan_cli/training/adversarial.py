"""The super-resolved feature losses (SRF-GAN paper, equations 1 to 3), on logits, and two other GANs'.

All of them take one map per pyramid level, average over each map's own pixels and channels, and sum over
levels. Two maps of a level may differ by a pixel or by padding: both are cut to their common size, from
the top left, where images and their halves agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from srfgan_cli.machine.distributed import World
from srfgan_cli.presets.config import AdversarialConfig, AdversarialLoss

Maps = dict[str, Tensor]
"""Level name -> (N, C, H, W)."""


@dataclass
class Judgement:
    """What the discriminator says of the generated maps, for both networks.

    Attributes:
        loss: L_adv of equation (2), scalar float32; its gradient reaches the maps and no weight of D.
        logits: of each map, (N, 1, H, W); their gradient reaches D and not the maps.
    """

    loss: Tensor
    logits: list[Tensor]


Judge = Callable[[Sequence[Tensor]], Judgement]


@dataclass(frozen=True)
class Terms:
    """A GAN's loss of each logit (...), elementwise.

    Attributes:
        deceiving: the generator's, of what D says of its maps.
        fake, real: D's own, of generated and of target maps.
    """

    deceiving: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    real: Callable[[Tensor], Tensor]


TERMS: dict[AdversarialLoss, Terms] = {
    "logistic": Terms(lambda x: F.softplus(-x), F.softplus, lambda x: F.softplus(-x)),
    # Geometric GAN (Lim and Ye 2017).
    "hinge": Terms(torch.neg, lambda x: F.relu(1 + x), lambda x: F.relu(1 - x)),
    # LSGAN (Mao et al. 2017), equation 9: 0 for generated, 1 for real.
    "least_squares": Terms(
        lambda x: (x - 1).square() / 2, lambda x: x.square() / 2, lambda x: (x - 1).square() / 2
    ),
}


class Adversary:
    """The discriminator, by one GAN's losses: the generator's judge, and the learner of its own step.

    Args:
        discriminator: D; None where the generator learns by L1 alone: then there is no judge, and no step.
        config: whose losses; the papers' are the logistic ones, without R1.
        world: this process among all.

    Attributes:
        modules: D by its name in a stage, on its device.
        parallel: the part of D's step that several processes average gradients after.
    """

    def __init__(self, discriminator: nn.Module | None, config: AdversarialConfig, world: World) -> None:
        self.modules: dict[str, nn.Module] = {}
        self.parallel: list[nn.Module] = []
        self._terms = TERMS[config.loss]
        if discriminator is not None:
            self.modules["discriminator"] = world.place(discriminator)
            self.parallel.append(world.parallel(RealLoss(discriminator, self._terms, config.r1)))

    @property
    def judge(self) -> Judge | None:
        """D's word on generated maps, for the generator's step."""
        return self._judge if self.modules else None

    def _judge(self, fake: Sequence[Tensor]) -> Judgement:
        """What D says of generated maps, in one forward pass that serves D's own step too.

        D is updated after both steps, so both would compute the same activations. Its batch-norm statistics move once.
        """
        network = self.modules["discriminator"]
        inputs = [f.detach().requires_grad_() for f in fake]
        # Of several processes, DDP writes the first one's statistics over all before D's step, whose backward pass
        # goes through this graph too: it gets copies.
        statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
        logits = [functional_call(network, statistics, (f,)) for f in inputs]  # (N, 1, H, W) each
        for name, buffer in network.named_buffers():
            buffer.copy_(statistics[name])
        loss = _total(self._terms.deceiving(x.float()).mean() for x in logits)
        return Judgement(_ThroughInputs.apply([loss], inputs, *fake), logits)

    def losses(self, logits: Sequence[Tensor], real: Sequence[Tensor]) -> Iterator[dict[str, Tensor]]:
        """Equation (1): D tells generated features from target ones; gradients reach D alone.

        Two losses, each to be gone back through before the next: D's activations, most of a step's memory, are held of
        the fake maps or of the real ones, never of both. Several processes average the sum of both gradients after the
        second.

        Args:
            logits: of the generated maps, from `judge`.
            real: target maps.
        """
        for real_loss in self.parallel:
            yield {"loss_d_fake": _total(self._terms.fake(x.float()).mean() for x in logits)}
            yield real_loss(real)


class RealLoss(nn.Module):
    """The part of equation (1) that sees target features, and R1, which is of them alone.

    Args:
        discriminator: D.
        terms: of whose GAN.
        r1: gamma of R1 (Mescheder et al. 2018, equation 9); 0: none.
    """

    def __init__(self, discriminator: nn.Module, terms: Terms, r1: float = 0) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.terms = terms
        self.r1 = r1

    def forward(self, real: Sequence[Tensor]) -> dict[str, Tensor]:
        """The sums over levels of the mean losses; the papers' `loss_d_real` is -log D(real)."""
        maps = [r.detach().float().requires_grad_() if self.r1 else r.detach() for r in real]
        logits = [self.discriminator(x).float() for x in maps]
        losses = {"loss_d_real": _total(self.terms.real(x).mean() for x in logits)}
        if self.r1:
            losses["loss_d_r1"] = self.r1 / 2 * _squared_slope(logits, maps)
        return losses


class _ThroughInputs(torch.autograd.Function):
    """A loss of `inputs`, as a function of the maps that they are detached copies of and of nothing else.

    Its graph is kept for the discriminator's step, and no weight's gradient is computed.
    """

    @staticmethod
    def forward(ctx: Any, loss: list[Tensor], inputs: list[Tensor], *maps: Tensor) -> Tensor:
        """The value of the loss, the only item of a list, which keeps its graph out of this one."""
        ctx.loss, ctx.inputs = loss[0], inputs
        return loss[0].detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the maps."""
        gradients = torch.autograd.grad(ctx.loss, ctx.inputs, gradient, retain_graph=True)
        return (None, None, *gradients)


def _squared_slope(logits: Sequence[Tensor], maps: Sequence[Tensor]) -> Tensor:
    """Of the sum of a map's logits, by each pixel's channels: the squared length, averaged over pixels and images."""
    slopes = torch.autograd.grad([x.sum() for x in logits], maps, create_graph=True)
    return _total(slope.square().sum(1).mean() for slope in slopes)


def adversarial_terms(
    fake: Sequence[Tensor], real: Sequence[Tensor], config: AdversarialConfig, judge: Judge | None
) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
    """lambda * L_adv of equations (2) and (3), of whole maps or of windows.

    Args:
        fake, real: (N, C, H, W) per level, of equal sizes in pairs.
        config: of the weight and the windows.
        judge: None where there is no discriminator.

    Returns:
        `loss_adversarial`; D's logits of the fake maps, and the real ones as it is to see them, for its own step.
        Nothing of all that without a judge.
    """
    if judge is None:
        return {}, [], []
    fake, real = random_windows(fake, real, config.window)
    judgement = judge(fake)
    return {"loss_adversarial": config.weight * judgement.loss}, judgement.logits, real


def content_loss(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Sum over levels of the mean absolute difference: L_L1 of equation (2). Scalar, float32."""
    return _total(F.l1_loss(f.float(), r.float()) for f, r in zip(fake, real, strict=True))


def paired(fake: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The maps of `fake`'s levels and `real`'s of the same names, cut to their common sizes."""
    cut = [_common_size(fake[level], real[level]) for level in fake]
    return [f for f, _ in cut], [r for _, r in cut]


def random_windows(
    fake: Sequence[Tensor], real: Sequence[Tensor], side: int | None
) -> tuple[list[Tensor], list[Tensor]]:
    """For each level and image, the same random window of the fake and of the real map.

    The paper's discriminator judges "patches extracted within" the features.

    Args:
        fake, real: (N, C, H, W) per level, of equal sizes in pairs.
        side: of a window, in map pixels; a map that is smaller in one direction stays whole in that one. None: all
            maps stay whole. The places are drawn from torch's global generator on the CPU.

    Returns:
        (N, C, min(side, H), min(side, W)) per level each; maps that fit into a window are not copied.
    """
    if side is None:
        return list(fake), list(real)
    windows = [_same_windows(f, r, side) for f, r in zip(fake, real, strict=True)]
    return [f for f, _ in windows], [r for _, r in windows]


def _same_windows(fake: Tensor, real: Tensor, side: int) -> tuple[Tensor, Tensor]:
    (height, width), count = fake.shape[-2:], len(fake)
    rows, columns = min(side, height), min(side, width)
    if (rows, columns) == (height, width):
        return fake, real
    tops = torch.randint(height - rows + 1, (count,)).tolist()
    lefts = torch.randint(width - columns + 1, (count,)).tolist()

    def cut(maps: Tensor) -> Tensor:
        places = zip(maps, tops, lefts, strict=True)
        return torch.stack([m[:, top : top + rows, left : left + columns] for m, top, left in places])

    return cut(fake), cut(real)


def _common_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    height, width = min(a.shape[-2], b.shape[-2]), min(a.shape[-1], b.shape[-1])
    return a[..., :height, :width], b[..., :height, :width]


def _total(terms: object) -> Tensor:
    return torch.stack(list(terms)).sum()  # type: ignore[call-overload]
