"""From a file to a detector that can be used: `load_detector`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import torch

from srfgan.models.errors import InputError, kind_of
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.coco_categories import COCO
from srfgan_cli.data.open import policy
from srfgan_cli.data.transforms import OriginalSize
from srfgan_cli.evaluation.tta import MultiScale
from srfgan_cli.export.exported_detector import ExportedDetector
from srfgan_cli.machine.devices import parse_devices
from srfgan_cli.prediction.predictor import Predictor
from srfgan_cli.presets.config import Precision
from srfgan_cli.runs.given import is_exported, weight_file
from srfgan_cli.runs.trained import config_of, load_trained, weights_of


def load_detector(
    source: str | Path,
    *,
    preset: str | Path | None = None,
    overrides: Iterable[str] = (),
    device: str | torch.device | None = None,
    tta: bool = False,
    precision: Precision = "fp32",
) -> Predictor:
    """Load a trained detector with all that it takes to use it.

    Args:
        source: our checkpoint, the folder of a finished run or of `srfgan export --format hub`, a model on
            Hugging Face's hub (`hf://OWNER/NAME`), an ONNX file that `srfgan export` wrote, or the .xml that OpenVINO
            has made of that; with `preset` also a file of detectron2's or the authors', or `published`: theirs,
            fetched.
        preset: whose detector it is, and how images are resized; by default what the checkpoint says.
        overrides: changes to that, as `model.inference.nms_iou=0.6`.
        device: as `cuda:1`; by default the first GPU, or the CPU where there is none.
        tta: look at every image at several sizes, and mirrored (`evaluation.tta`).
        precision: of the networks.

    Raises:
        InputError: the file cannot be read, is of another kind, or does not say what it is and no preset does;
            no such device or precision; an exported file is to be changed, or to run elsewhere than on a CPU.
    """
    if not isinstance(source, str | Path):
        raise InputError(f"a detector is loaded from a path, not from {kind_of(source)}")
    if precision not in get_args(Precision):
        raise InputError(f"precision is one of {', '.join(get_args(Precision))}, got {precision!r}")
    if isinstance(overrides, str):
        raise InputError("overrides is a str; give a list, as ['model.inference.nms_iou=0.6']")
    path, overrides = weight_file(Path(source)), list(overrides)
    where = _device(device) if device is not None else parse_devices("auto").device()
    if is_exported(path):
        if device is not None and where.type != "cpu":
            raise InputError(f"{path}: exported files run on the CPU here: leave device {device} out.")
        changed = tta or preset is not None or bool(overrides) or precision != "fp32"
        return _from_exported(path, changed=changed)
    config = config_of(path, preset, overrides)
    trained = load_trained(config, weights_of(config, path))
    detector = trained.detector.to(where)
    tta = tta or config.evaluation.tta.enabled
    return Predictor(
        model=MultiScale(detector, config.evaluation.tta) if tta else detector,
        categories=trained.categories or _unnamed(detector.config.num_classes),
        resize=OriginalSize() if tta else policy(config.data, training=False),
        device=where,
        lowest_score=detector.config.inference.score_threshold,
        nms_iou=detector.config.inference.nms_iou,
        precision=precision,
        max_pixels=config.data.max_pixels,
    )


def _device(wanted: str | torch.device) -> torch.device:
    """A device that is there."""
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError):
        raise InputError(
            f"device {wanted!r} is not on this machine; wanted is one as cpu or cuda:0"
        ) from None
    return device


def _from_exported(path: Path, *, changed: bool) -> Predictor:
    if changed:
        raise InputError(
            f"{path}: an exported file is used as it is; --tta, --precision, presets and --set need a checkpoint."
        )
    model = ExportedDetector(path)
    return Predictor(
        model,
        model.required_categories,
        model.resize,
        torch.device("cpu"),
        model.lowest_score,
        model.nms_iou,
        batch_size=model.batch or 1,
    )


def _unnamed(count: int) -> CategoryMap:
    """For files of other projects: COCO's names where there are as many classes, else numbers."""
    if count == len(COCO):
        return COCO
    return CategoryMap(tuple(range(count)), tuple(f"class {label}" for label in range(count)))
