"""Networks that a stage takes from the files of earlier stages, or of other projects."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from srfgan.models import build_detector, build_discriminator
from srfgan.models.config import DiscriminatorConfig, ModelConfig
from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.weights import Checkpoint, load_weights, read_checkpoint
from srfgan.models.weights.generator import shape_of
from srfgan_cli.data.categories import CategoryMap, few
from srfgan_cli.screen.console import stderr
from srfgan_cli.training.initial import tell_if_trained_otherwise

EXTRACTOR = ("backbone", "neck")
GENERATOR = ("neck.upsample",)
_OF_SOME_LEVELS = (
    "neck.lateral.p2.",
    "neck.output.p2.",
    "neck.path_output.p2.",
    "neck.downsample.p3.",
    "neck.top.",
)
"""What only necks with some levels have: those from p2, or those up to p7."""


def load_guide(path: Path, config: ModelConfig) -> Detector:
    """F of stages 1 and 2: the backbone and neck of a trained plain detector.

    Args:
        path: our checkpoint, which says how it was built, or another project's of the shape of `config`.
        config: the experiment's model; F is its plain twin (`nn`), unless our checkpoint says otherwise.

    Raises:
        InputError: unreadable, of another architecture, or with a pyramid of another width.
    """
    checkpoint = read_checkpoint(path)
    built = checkpoint.model_config() or config.plain()
    if built.neck.channels != config.neck.channels:
        raise InputError(
            f"{path}: its pyramid has {built.neck.channels} channels, this preset's {config.neck.channels}."
        )
    if built.neck.upsampler != "nn":
        stderr.print(
            f"{path} upsamples by '{built.neck.upsampler}': the papers' F is a plain detector, of 'nn'."
        )
    guide = build_detector(built)
    load_weights(guide, checkpoint, parts=EXTRACTOR, strict=True)
    return guide


def load_discriminator(source: Path | Checkpoint, config: DiscriminatorConfig, channels: int) -> nn.Module:
    """D of a stage-1 checkpoint.

    Raises:
        InputError: the file has none, or one of another shape.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    if not any(name.startswith("discriminator.") for name in checkpoint.tensors):
        raise InputError(
            f"{checkpoint.path} holds no discriminator: give stage 1's own result, which has G and D. If that was "
            "trained by L1 alone, --set extract.adversarial.weight=0 goes on so, and --set "
            "pretrain.adversarial.weight=0 begins with a new one."
        )
    discriminator = build_discriminator(config, channels)
    load_weights(discriminator, checkpoint, strict=True)
    return discriminator


def take_generator(detector: Detector, source: Path | Checkpoint) -> None:
    """Reuse G: a stage-1 result's generator, or the one inside a detector's file, into the detector's neck.

    Raises:
        InputError: the file holds no generator of this body and size.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    if shape_of(detector.state_dict()) is not None and shape_of(checkpoint.tensors) is None:
        raise InputError(
            f"{checkpoint.path} holds no generator: give a stage-1 result, or a detector with a generator."
        )
    _check_same_generator(detector, checkpoint)
    load_weights(detector, checkpoint, parts=GENERATOR, strict=True)


def take_extractor(detector: Detector, path: Path) -> None:
    """Reuse M: a stage-2 result's backbone and neck, G included.

    M may have been trained with another kind of head (SRF-GAN paper, table 3): then levels that only M has stay
    behind, and levels that only `detector` has start afresh.

    Raises:
        InputError: the file holds another architecture.
    """
    checkpoint = read_checkpoint(path)
    _check_same_generator(detector, checkpoint)
    tell_if_trained_otherwise(f"{checkpoint.path}: these weights", checkpoint, detector.config)
    report = load_weights(detector, checkpoint, parts=EXTRACTOR, warn=False)
    if report.complete:
        return
    differing = [*report.missing, *report.mismatched, *report.unexpected]
    if any(not name.startswith(_OF_SOME_LEVELS) for name in differing):
        raise InputError(f"{path} holds another extractor than this detector's.\n{report.summary()}")
    stderr.print(
        f"The extractor was trained with another head; its levels differ.\n{report.summary()}", soft_wrap=True
    )


def _check_same_generator(detector: Detector, checkpoint: Checkpoint) -> None:
    own, theirs = shape_of(detector.state_dict()), shape_of(checkpoint.tensors)
    if own is not None and theirs is not None and own != theirs:
        raise InputError(
            f"{checkpoint.path} holds the generator {theirs}; this preset's is {own}. Give the preset that it belongs "
            f"to, or: {theirs.settings}"
        )


def load_start(detector: Detector, path: Path, categories: CategoryMap) -> None:
    """Start from another detector's weights; lists what was not loaded, as a head of other classes.

    Args:
        categories: the data set's, which the file's may differ from.

    Raises:
        InputError: unreadable, or of another architecture.
    """
    checkpoint = read_checkpoint(path)
    tell_if_trained_otherwise(f"{checkpoint.path}: these weights", checkpoint, detector.config)
    report = load_weights(detector, checkpoint, warn=False)
    if not report.complete:
        stderr.print(f"Loaded in part; the rest starts from random weights.\n{report.summary()}")
    if checkpoint.categories is None:
        return
    own = CategoryMap.from_records(checkpoint.categories, str(path))
    if own.names != categories.names:
        stderr.print(
            f"{path} was trained on other classes ({few(own)}) than the data set's ({few(categories)}), which it now "
            "learns."
        )
