"""Finding and loading a trained detector, for evaluation, pictures and export."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from srfgan.models import build_detector
from srfgan.models.config import ModelConfig
from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.weights import Checkpoint, load_weights, read_checkpoint
from srfgan.models.weights.files import require_file
from srfgan_cli.data.categories import CategoryMap, few
from srfgan_cli.downloads.hub import is_on_hub
from srfgan_cli.presets.config import Config, StageName
from srfgan_cli.presets.library import called, flatten, load_preset, stored_config
from srfgan_cli.runs.folder import Run
from srfgan_cli.runs.given import weight_file
from srfgan_cli.runs.published import PUBLISHED, published_file
from srfgan_cli.screen.console import stderr

_NAMED = 4
"""How many keys of a model that are not used are named."""


@dataclass(frozen=True)
class TrainedDetector:
    """A detector in evaluation mode and what is known about it.

    Attributes:
        path: the file its weights are from.
        categories: what its labels mean; None where the file does not say.
        iteration: how far its training was; None where the file does not say.
        stage: that trained it, `extract` or `finetune`.
    """

    detector: Detector
    path: Path
    categories: CategoryMap | None
    iteration: int | None = None
    stage: StageName = "finetune"


def weights_of(config: Config, weights: Path | None) -> Path:
    """The file to load: the one named, the authors' for `published`, or the result of the preset's last stage.

    Raises:
        InputError: it is not there, or cannot be fetched.
    """
    if weights == PUBLISHED:
        return published_file(config)
    run = Run.of_detector(config)
    path = weight_file(weights) if weights else run.model
    if path.exists():
        require_file(path)
    else:
        command = f"srfgan {config.stages[-1]} --preset {called(run.folder.name)}"
        hint = "" if weights else f" Train it ({command}), or name a file with --weights."
        raise InputError(f"The weights {path} do not exist.{hint}")
    return path


def config_of(weights: Path | None, preset: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """The experiment that a weight file is of: the preset's, or without one what our own checkpoints carry.

    Raises:
        InputError: the file is no checkpoint of ours, and there is no preset; or the config is not valid.
    """
    if preset is not None:
        return load_preset(preset, overrides)
    assert weights is not None
    if weights == PUBLISHED:
        raise InputError("--weights published: name the preset whose weights are meant with --preset.")
    stored = read_checkpoint(weight_file(weights))
    if stored.config is None:
        raise InputError(
            f"{weights}: does not say which detector it is of, as only checkpoints of ours do; name its preset "
            "with --preset."
        )
    return stored_config(stored.config, weights, overrides)


def folder_beside(config: Config, weights: Path | None, path: Path) -> Path:
    """Where what is made of the weights in `path` goes by default: beside them, but not into the cache."""
    elsewhere = "published" if weights == PUBLISHED else "hub" if weights and is_on_hub(weights) else None
    return Run.default(elsewhere, config.name).folder if elsewhere else path.parent


def load_trained(
    config: Config, path: Path, categories: CategoryMap | None = None, *, any_model: bool = False
) -> TrainedDetector:
    """Build the detector of a checkpoint and load it completely.

    Args:
        config: the preset; a checkpoint of ours knows its own model and takes only `model.inference` from it. What
            else of `model` is otherwise there is told.
        path: our checkpoint, or one of detectron2's or the authors'.
        categories: the data set's, which the detector must fit.
        any_model: it need not be the preset's, as a teacher's, and nothing is told.

    Raises:
        InputError: unreadable, another architecture, or other classes than the data set's or its own categories.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.stage is not None and checkpoint.model is None:
        raise InputError(f"{path} holds no detector: it is the result of stage '{checkpoint.stage}'.")
    own = None
    if checkpoint.stage is not None:
        own = CategoryMap.from_records(checkpoint.categories, str(path))
    if own is not None and categories is not None:
        check_same_classes(own, categories, path)
    detector = build_detector(_model_config(config, checkpoint, categories))
    if own is not None and len(own) != detector.config.num_classes:
        raise InputError(
            f"{path}: names {len(own)} categories ({few(own)}), but is a detector of {detector.config.num_classes}; it "
            "was changed after it was written: export it anew."
        )
    if checkpoint.model is not None and not any_model:
        _tell_of_other_model(config, checkpoint, detector.config)
    report = load_weights(detector, checkpoint, warn=False)
    if report.missing or report.mismatched:
        raise InputError(f"{path} does not fit this detector and data set.\n{report.summary()}")
    if report.unexpected:
        stderr.print(report.summary(), soft_wrap=True)
    stage: StageName = "extract" if checkpoint.stage == "extract" else "finetune"
    return TrainedDetector(detector.eval(), path, own or categories, checkpoint.iteration, stage)


def _model_config(config: Config, checkpoint: Checkpoint, categories: CategoryMap | None) -> ModelConfig:
    stored = checkpoint.model_config()
    if stored is not None:
        return stored.model_copy(update={"inference": config.model.inference})
    classes = {"num_classes": len(categories)} if categories is not None else {}
    return config.model.model_copy(update=classes)


def _tell_of_other_model(config: Config, checkpoint: Checkpoint, own: ModelConfig) -> None:
    """Say what of a preset's `model` is not used, as the detector of a checkpoint of ours has it otherwise."""
    wanted = config.model
    if checkpoint.stage == "extract":
        wanted = wanted.scaled(config.extract.anchor_scale)
    given, used = flatten(wanted), flatten(own)
    other = [
        f"{key} is {used.get(key)!r}, not {given.get(key)!r}"
        for key in given | used
        if given.get(key) != used.get(key) and key != "num_classes"
    ]
    if other:
        more = f"; and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
        stderr.print(
            f"{checkpoint.path} knows its own model, and takes only model.inference from the preset and --set: "
            f"{'; '.join(other[:_NAMED])}{more}.",
            style="yellow",
        )


def check_same_classes(own: CategoryMap, wanted: CategoryMap, path: Path) -> None:
    """A detector is scored on data of the classes that it knows, in their order.

    Raises:
        InputError: the data set's, `wanted`, are others than those of the weights in `path`.
    """
    if own.names != wanted.names:
        raise InputError(
            f"{path} was trained on other categories ({few(own)}) than the data set's ({few(wanted)}). "
            "Fine-tune it on this data first: srfgan finetune --weights FILE."
        )
