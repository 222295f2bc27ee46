"""detectron2's .pth and .yaml: writing a detector under its names, and running the files with detectron2."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.weights.names import is_derived, to_detectron2
from srfgan_cli.export.detectron2_config import HEADER, bifpn_wiring, config_text, needs_plugin
from srfgan_cli.export.graph import Runtime
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.presets.config import Config
from srfgan_cli.runs.trained import TrainedDetector


def config_beside(weights: Path) -> Path:
    """The config that belongs to a weight file: of the same name, in the same folder."""
    return weights.with_suffix(".yaml")


def refuse_other_config(weights: Path) -> None:
    """Check that writing the config would not overwrite some other YAML file, such as the preset.

    Raises:
        InputError: it would.
    """
    path = config_beside(weights)
    if path.is_file() and not path.read_bytes().startswith(HEADER.encode()):
        raise InputError(
            f"{path} is in the way: the config goes there, and that file is none. Name another --output."
        )


def write_detectron2(config: Config, trained: TrainedDetector, path: Path, output: Path) -> None:
    """Write `path` and the config beside it.

    Args:
        config: the preset.
        trained: one that `require_expressible` accepts.
        path: the weights, written atomically, as the config is.
        output: where the weights are going to lie; the config says its name.

    Raises:
        InputError: a file cannot be written.
    """
    state = trained.detector.state_dict()
    names = detectron2_names(state, bifpn_wiring(trained.detector.config))
    tensors = {theirs: state[ours].detach().cpu().contiguous() for theirs, ours in names.items()}
    write_atomically(path, lambda file: torch.save({"model": tensors}, file))
    text = config_text(config, trained.detector.config, output.name, trained.categories)
    write_atomically(config_beside(path), lambda file: file.write(text.encode()))


def detectron2_names(names: Iterable[str], wiring: str | None = None) -> dict[str, str]:
    """Our names of a detector's tensors by detectron2's, AFI-GAN's for what it added; no constants.

    Args:
        names: of the detector's state dict.
        wiring: of its BiFPN, if it has one.
    """
    found = {}
    for name in names:
        if name.endswith("num_batches_tracked") or not is_derived(name):
            theirs = to_detectron2(name, wiring)
            assert theirs is not None, name
            found[theirs] = name
    return found


def has_detectron2() -> bool:
    """Whether detectron2 is installed."""
    return find_spec("detectron2") is not None


def load_detectron2(path: Path, detector: Detector) -> Any:
    """The files as detectron2's model on the CPU, in evaluation mode.

    Args:
        path: the weights, with the config beside them.
        detector: the one they came from; says whether the plug-in is needed.

    Raises:
        RuntimeError: detectron2's model and the file differ in a tensor.
    """
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    if needs_plugin(detector.config):
        from srfgan_cli.export.detectron2_plugin import add_srfgan_config

        add_srfgan_config(cfg)
    cfg.merge_from_file(str(config_beside(path)))
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    return model


def open_detectron2(path: Path, detector: Detector) -> Runtime:
    """The files in detectron2, as `load_detectron2` loads them."""
    model = load_detectron2(path, detector)
    one_stage = detector.config.detector == "retinanet"

    def run(image: Tensor) -> dict[str, Tensor]:
        batch = [{"image": image.flip(0) if model.input_format == "BGR" else image}]
        with torch.no_grad():
            # Without the last step of R-CNNs, which pastes the masks.
            found = model(batch)[0]["instances"] if one_stage else model.inference(batch, None, False)[0]
        outputs = {"boxes": found.pred_boxes.tensor, "scores": found.scores, "labels": found.pred_classes}
        return outputs | ({"masks": found.pred_masks[:, 0]} if found.has("pred_masks") else {})

    return run
