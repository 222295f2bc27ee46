"""Stage 3, the target detector; with a plain upsampler, the ordinary training of a detector."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from srfgan.models.detector import Detector
from srfgan.models.structures import Target
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets.config import FeatureEnhancementConfig, FinetuneConfig
from srfgan_cli.training.feature_enhancement import check_trained, enhancement_losses
from srfgan_cli.training.freezing import freeze
from srfgan_cli.training.optim import build_optimizer


class DetectionLosses(nn.Module):
    """A detector's own losses, as one module that the processes can average the gradients of.

    Args:
        detector: T.
        enhancement: the terms on its backbone's weights that come to them, if any.
    """

    def __init__(self, detector: Detector, enhancement: FeatureEnhancementConfig | None = None) -> None:
        super().__init__()
        self.detector = detector
        self.enhancement = enhancement

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """The detector's named losses."""
        losses = self.detector.losses(images, targets)
        if self.enhancement is None:
            return losses
        return losses | enhancement_losses(self.detector.backbone, self.enhancement)


class FinetuneStage:
    """Trains T on original images; a frozen generator (table 4, A4) keeps its weights and statistics.

    Raises:
        InputError: a pattern of `freeze` or `lr_factors` matches nothing, nothing is left to train, or what
            `feature_enhancement` is of is frozen.
    """

    def __init__(self, detector: Detector, config: FinetuneConfig, world: World) -> None:
        self._frozen: nn.Module | None = None
        if config.freeze_generator:
            self._frozen = detector.upsample.requires_grad_(False)
        self._still = freeze(detector, config.freeze)
        if config.feature_enhancement is not None:
            check_trained(detector.backbone)
        self.detector: Detector | None = detector.to(world.device)
        self.modules: dict[str, nn.Module] = {"detector": detector}
        self.optimizers = {"detector": build_optimizer(detector, config.solver, config.lr_factors)}
        self._detection_losses = world.parallel(DetectionLosses(detector, config.feature_enhancement))
        self.parallel = [self._detection_losses]

    def train(self) -> None:
        """The detector in training mode, a frozen generator and frozen batch norms in evaluation mode."""
        detector = self.modules["detector"].train()
        for name in self._still:
            detector.get_submodule(name).eval()
        if self._frozen is not None:
            self._frozen.eval()

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """The detection losses."""
        yield self._detection_losses(batch.images, batch.targets)
