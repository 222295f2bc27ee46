"""What a run is known by: what decides its result, of its config, its data and its images. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.data.given import check_root, split_files
from srfgan_cli.data.split_files import SplitFiles
from srfgan_cli.presets.config import Config, DataConfig, SolverConfig
from srfgan_cli.presets.library import flatten
from srfgan_cli.runs.folder import FREE_TO_CHANGE

_JUDGING = ("model.inference", "evaluation.max_detections", "evaluation.count_unusable")
"""What decides a score on the way beside the weights and `data`; those are at one scale."""


def what_decides(config: Config, stage: str, unlabeled: str) -> dict[str, Any]:
    """What a stage uses of its config; stage 1 knows of the detector only the maps that its guide makes."""
    sections = {stage, "data", "seed", "sync_bn"}
    if stage != "finetune":
        sections.add("discriminator")
    if stage != "pretrain":
        sections |= {"model", "initial_weights"}
    kept = {key: value for key, value in _given(config).items() if key.split(".")[0] in sections}
    unused = [*FREE_TO_CHANGE, *(["data.degradation"] if stage == "finetune" else [])]
    if stage == "finetune" and config.finetune.self_training is not None:
        kept["unlabeled"] = unlabeled
    else:
        unused.append("model.inference")  # which decides what a teacher finds
    kept = {key: value for key, value in kept.items() if not _belongs(key, unused)}
    solver: SolverConfig = getattr(config, stage).solver
    if solver.patience is not None:  # then scores on the way decide where it ends
        kept["evaluate_every"] = solver.evaluate_every
        kept |= {key: value for key, value in _given(config).items() if _belongs(key, _JUDGING)}
    if stage == "pretrain":
        neck = config.model.neck
        size = [] if neck.generator is None else [neck.generator.sizes(neck.channels)]
        kept["generator"] = [neck.upsampler, neck.channels, *size]
    else:
        kept |= {key: getattr(config.model.inference, key) for key in config.model.inference_in_training}
    return kept


def scoring(config: Config) -> dict[str, Any]:
    """What decides a detector's score beside its weights."""
    sections = ["evaluation", "model.inference"]
    if not config.evaluation.tta.enabled:  # whose views have sizes of their own
        sections += ["data.test_short_side", "data.test_max_side"]
    return {
        key: value
        for key, value in _given(config).items()
        if _belongs(key, sections) and key not in FREE_TO_CHANGE
    }


def _given(config: Config) -> dict[str, Any]:
    """The config's values that are not the defaults: a key that a later version adds makes no run another one."""
    defaults = flatten(Config().model_copy(update={"model": type(config.model)()}))
    return {key: value for key, value in flatten(config).items() if value != defaults.get(key)}


def _belongs(key: str, sections: Sequence[str]) -> bool:
    """Whether a dotted key is one of the sections, lies in one, or has such a last part."""
    return any(key == part or key.startswith(f"{part}.") or key.endswith(f".{part}") for part in sections)


def data_identity(data: DataConfig, root: Path | None) -> str:
    """Tells data sets apart without reading them: the annotation files' names and sizes.

    Raises:
        InputError: no data set, or in no layout that is known.
    """
    check_root(data, root)
    if data.dataset == "shapes":
        return "shapes"
    return "; ".join(_identity(split_files(data, root, split)) for split in ("train", "val"))


def _identity(files: SplitFiles) -> str:
    if files.path.suffix == ".json":
        return f"{files.path.name} {files.path.stat().st_size}"
    from srfgan_cli.data.coco import CocoIndex  # brings numpy; labels in many files have to be read

    return f"{files.path.name} {CocoIndex.of(files.read(), check=files.check).digest()[:16]}"


def folder_identity(folder: Path) -> str:
    """Tells folders of images apart without reading the images: their name and how much is in them.

    Raises:
        InputError: no such folder, or an empty one.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if not names:
        raise InputError(f"--unlabeled {folder}: there is no such folder, or nothing in it.")
    return f"{folder.name} {len(names)}"
