"""A preset in words: what its detector is, which rows it reproduces, how it is run. Imports no torch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from srfgan.models.config import NeckConfig
from srfgan.models.upsamplers import GENERATORS
from srfgan_cli.presets.config import AdversarialConfig, Config, StageName
from srfgan_cli.presets.library import dump_yaml, list_presets
from srfgan_cli.screen.console import visible

COCO_TRAIN_IMAGES = 117_266
"""Images of COCO train2017 (118,287) that have annotations, which is what trains a detector."""

_DETECTORS = {
    "faster_rcnn": "Faster R-CNN",
    "mask_rcnn": "Mask R-CNN",
    "cascade_rcnn": "Cascade R-CNN",
    "cascade_mask_rcnn": "Cascade Mask R-CNN",
    "panet": "PANet",
    "libra_rcnn": "Libra R-CNN",
    "tridentnet": "TridentNet",
    "retinanet": "RetinaNet",
    "fcos": "FCOS",
    "atss": "ATSS",
    "centermask": "CenterMask",
    "sparse_rcnn": "Sparse R-CNN",
}
_NECKS = {"fpn": "FPN", "pafpn": "PAFPN", "bifpn": "BiFPN", "augfpn": "AugFPN", "c4": "C4"}


def describe(config: Config) -> str:
    """The experiment in one line: in the preset's own words, or else in those of `recipe`."""
    return config.description or recipe(config)


def recipe(config: Config) -> str:
    """The experiment in one line, from nothing but its config, so that it is true whatever was changed."""
    neck = config.model.neck
    detector = _DETECTORS.get(config.model.detector, config.model.detector)
    said = [f"{detector} {_title(config.model.backbone.name)}-{_NECKS.get(neck.name, neck.name)}"]
    if config.model.has_pyramid:
        said.append(_upsampling(neck))
    return ", ".join([*said, *_taken_over(config), _length(config), *_peculiarities(config)])


def header(config: Config, preset: str, settings: Sequence[str] = ()) -> Iterator[str]:
    """What stands above a preset's YAML: what it is, its rows with their numbers, and the command that it is for.

    Args:
        preset: its name or file, for the command.
        settings: `KEY=VALUE` that made `config` of the preset, for the command.
    """
    if config.description:
        yield config.description
    yield recipe(config)
    yield from map(str, config.references)
    yield f"run: {run_command(config, preset, settings)}"
    yield f"change: {change_options(config)}"
    if config.rows and preset in list_presets() and not settings:
        table = config.references[0].table
        yield f"with all that it rests on: srfgan reproduce {table} --rows {preset} --data-root DIR"


def document(config: Config, preset: str) -> str:
    """The preset as a YAML file that builds on no other: `header`, and every value.

    Args:
        preset: the file's name, after which its runs are called.
    """
    if config.guide in list_presets():  # by default one named after the preset, whose name will be another
        sources = config.sources.model_copy(update={"guide": config.guide})
        config = config.model_copy(update={"sources": sources})
    lines = [f"# {visible(line)}" for text in header(config, preset) for line in text.splitlines()]
    return "\n".join([*lines, dump_yaml(config, without=("name",))])


def run_command(config: Config, preset: str, settings: Sequence[str] = ()) -> str:
    """The command that makes the preset's detector of earlier stages' results, or scores it if it trains none."""
    stage = _last_stage(config)
    command = shlex.join(["srfgan", stage or "eval", "--preset", preset])
    for setting in settings:
        command += f" --set {shlex.quote(setting)}"
    if config.data.dataset != "shapes":
        command += " --data-root DIR"
    if stage == "finetune" and config.finetune.self_training is not None:
        command += " --unlabeled DIR --teacher FILE"
    return command


def change_options(config: Config) -> str:
    """Options of that command, as an example of how to try something else."""
    stage = _last_stage(config)
    if stage is None:
        return "--set evaluation.tta.flip=false"
    return f"--iterations 1000 --set {stage}.solver.lr={getattr(config, stage).solver.lr / 2:g}"


USUAL_WEIGHT = AdversarialConfig().weight
"""Of the adversarial term: the papers'."""


def train_images(config: Config) -> int:
    """Images that a pass over the training data sees: COCO's, unless the preset generates its own."""
    return config.data.shapes_train if config.data.dataset == "shapes" else COCO_TRAIN_IMAGES


def _last_stage(config: Config) -> StageName | None:
    """The stage whose detector is the preset's; None where that is another preset's."""
    return config.stages[-1] if config.sources.detector is None else None


def _title(backbone: str) -> str:
    """As the papers write it: R-50, X-101-64x4d, Swin-T."""
    if re.match(r"[a-z]\d", backbone):
        return f"{backbone[0].upper()}-{backbone[1:].replace('_', '-')}"
    return (
        backbone.title().replace("_", "-") if backbone.startswith("swin_") else backbone.removeprefix("timm/")
    )


def _upsampling(neck: NeckConfig) -> str:
    if neck.upsampler == "nn":
        return "nearest neighbour"
    sizes = neck.generator.sizes(neck.channels) if neck.generator else {}
    words = {"width": "{} wide inside", "blocks": "{} blocks"}
    said = [words[key].format(value) for key, value in sizes.items()]
    return f"{neck.upsampler} ({', '.join(said)})" if said else neck.upsampler


def _taken_over(config: Config) -> list[str]:
    """What earlier stages give to the detector, and whose stages they are where not the preset's own."""
    train, sources = config.finetune, config.sources
    alone = train.reuse == "G" and "extract" not in config.stages
    source = sources.generator if alone else sources.extractor
    of_source = f" of {source}" if source else ""
    if "finetune" not in config.stages:
        return [f"the extractor{of_source} itself"]
    start = [f"continued from {config.guide}"] if train.start_from_guide else []
    if train.reuse == "none":
        return [*start, *(["not pre-trained"] if config.model.neck.upsampler in GENERATORS else [])]
    what = "generator" if train.reuse == "G" else "whole extractor"
    return [
        *start,
        f"{what}{of_source} reused ({train.reuse})",
        *(["generator frozen"] if train.freeze_generator else []),
    ]


def _length(config: Config) -> str:
    images = getattr(config, config.stages[-1]).solver.images
    epochs = round(images / train_images(config))
    return f"{epochs} epochs" if epochs > 1 else f"{images:,} images"


def _adversary(config: Config) -> Iterator[str]:
    term = config.pretrain.adversarial
    if term.weight == 0:
        yield "no adversarial term"
        return
    if term.weight != USUAL_WEIGHT:
        yield f"adversarial term of weight {term.weight:g}"
    if term.loss != "logistic":
        yield f"{term.loss.replace('_', '-')} loss of D"
    if term.r1:
        yield f"R1 of {term.r1:g}"
    if config.discriminator.normalization == "spectral":
        yield "D spectrally normalised"


def _peculiarities(config: Config) -> Iterator[str]:
    changes = {
        "mosaic": "mosaics",
        "rotation": "rotations",
        "crop": "random crops",
        "scale_jitter": "large-scale jitter",
        "copy_paste": "copy-paste",
    }
    yield from (name for key, name in changes.items() if getattr(config.data, key) is not None)
    if config.data.repeat_threshold is not None:
        yield "rare classes repeated"
    if config.finetune.freeze:
        yield f"frozen: {', '.join(config.finetune.freeze)}"
    if "pretrain" in config.stages:
        yield from _adversary(config)
    if "pretrain" in config.stages and config.pretrain.equal_phases:
        yield "phases equal at first"
    if "pretrain" in config.stages and config.pretrain.distill is not None:
        yield "distilled" + (f" from {config.sources.distill}" if config.sources.distill else "")
    if "extract" in config.stages:
        if config.data.degradation != "bilinear":
            yield f"half-size images by {config.data.degradation}"
        if config.extract.pairing == "different":
            yield "different levels compared"
    if config.finetune.self_training is not None:
        yield "self-training"
    if config.finetune.feature_enhancement is not None:
        yield "res3 and res5 regularised"
    if config.evaluation.tta.enabled:
        yield "multi-scale testing"
