"""What the user wants drawn: the options of `srfgan visualize`, and the detectors and images that they name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.ops.masks import paste_masks
from srfgan.models.structures import Detections
from srfgan.models.upsamplers import GENERATORS
from srfgan.models.weights.generator import load_generator
from srfgan_cli.data.categories import CategoryMap, few
from srfgan_cli.data.images import is_image_name, list_images, read_image
from srfgan_cli.data.open import policy
from srfgan_cli.evaluation.tta import MultiScale
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import Config
from srfgan_cli.runs.folder import Run, newest_detector
from srfgan_cli.runs.given import weight_file
from srfgan_cli.runs.published import PUBLISHED, published_file
from srfgan_cli.runs.trained import TrainedDetector, config_of, load_trained
from srfgan_cli.screen.console import stderr
from srfgan_cli.visualization.text import class_texts

FALLBACK_PRESET = "mask_rcnn_r18_fpn"
"""What is drawn with random weights where there is neither a preset nor a run."""

_NAMED = 10
"""How many classes shown by their ids are named."""


@dataclass(frozen=True)
class Request:
    """The options of the command."""

    preset: str | None
    overrides: Sequence[str]
    weights: Path | None
    generator: Path | None
    image: Path | None
    output: Path | None
    device: torch.device

    @property
    def weight_files(self) -> list[Path | None]:
        """The files or folders that `weights` names, with commas between them; [None] without any."""
        if self.weights is None or self.weights.exists():  # a name may itself hold commas
            return [self.weights]
        return [Path(name) for name in str(self.weights).split(",") if name]


@dataclass(frozen=True)
class Images:
    """What `--image` names: the images, and the names of a folder's other entries."""

    paths: list[Path]
    others: list[str]


@dataclass(frozen=True)
class Subject:
    """A trained detector on its device, with the config that says at which size it sees images."""

    config: Config
    trained: TrainedDetector

    @property
    def detector(self) -> Detector:
        """The network, in evaluation mode."""
        return self.trained.detector


def find_detector(
    request: Request, path: Path | None, categories: CategoryMap | None = None
) -> tuple[Config, TrainedDetector | None]:
    """The config to draw with, and the trained detector: the file named, the preset's run, or the newest run.

    Args:
        request: names the preset.
        path: the file; None for one of the others.
        categories: a data set's, which the detector must fit.

    Raises:
        InputError: the file cannot be read, or holds no such detector.
    """
    if path == PUBLISHED:
        if request.preset is None:
            raise InputError("--weights published: name the preset whose weights are meant with --preset.")
        path = published_file(load_preset(request.preset, request.overrides))
    elif path is None and request.preset is not None:
        config = load_preset(request.preset, request.overrides)
        own = Run.of_detector(config).model
        path = own if own.is_file() else None
    elif path is None:
        path = newest_detector()
    else:
        path = weight_file(path)
        if not path.is_file():
            raise InputError(f"The weights {path} do not exist.")
    if path is None:
        return load_preset(request.preset or FALLBACK_PRESET, request.overrides), None
    config = config_of(path, request.preset, request.overrides)
    return config, load_trained(config, path, categories)


def trained_subject(request: Request, path: Path | None, categories: CategoryMap | None = None) -> Subject:
    """As `find_detector`, of trained detectors alone, on the device.

    Raises:
        InputError: there is none.
    """
    config, trained = find_detector(request, path, categories)
    if trained is None:
        raise InputError("There is no trained detector to draw with: name a checkpoint with --weights.")
    stderr.print(f"Weights: {trained.path}")
    trained.detector.to(request.device)
    return Subject(config, trained)


def check_same_classes(subjects: Sequence[Subject]) -> None:
    """Whether detectors that are drawn side by side tell the same classes apart.

    Raises:
        InputError: they do not.
    """
    first, *others = (subject.trained for subject in subjects)
    for other in others:
        mine, theirs = first.categories, other.categories
        known = mine is not None and theirs is not None
        counts = (first.detector.config.num_classes, other.detector.config.num_classes)
        if (known and mine.names != theirs.names) or counts[0] != counts[1]:  # type: ignore[union-attr]
            told = [
                few(each) if each else f"{count}" for each, count in zip((mine, theirs), counts, strict=True)
            ]
            raise InputError(
                f"{first.path} and {other.path} know different classes ({told[0]}; {told[1]}): "
                "name detectors that were trained on the same data set."
            )


def generators(
    request: Request, config: Config, detector: Detector, methods: Sequence[str]
) -> dict[str, nn.Module]:
    """A generator named on the command line, by its method, whatever its size.

    Raises:
        InputError: the file holds none for the detector's maps, or one that `methods` do not name.
    """
    if request.generator is None:
        return {}
    path = published_file(config) if request.generator == PUBLISHED else weight_file(request.generator)
    method, generator = load_generator(path, detector.config.neck.channels)
    if method not in methods:
        raise InputError(
            f"--generator would not be used: {path} holds {method!r}, which --methods does not name."
        )
    return {method: generator}


def untrained_note(untrained: Sequence[str], path: Path) -> str:
    """What a panel says of the methods whose weights are random, after telling the user; nothing without any."""
    if not untrained:
        return ""
    listed = ", ".join(untrained)
    by_stage = [name for name in untrained if name in GENERATORS]
    hint = f" A stage-1 result for {' or '.join(by_stage)}: --generator FILE." if by_stage else ""
    stderr.print(f"{path} has no trained {listed}: shown with random weights.{hint}", style="yellow")
    return f"untrained: {listed}"


def find_images(path: Path | None) -> Images:
    """The image file, or those of a folder; none for the built-in one.

    Raises:
        InputError: there is no such file, or no image in the folder.
    """
    if path is None:
        return Images([], [])
    if path.is_dir():
        others = sorted(
            entry.name + "/" * entry.is_dir() for entry in path.iterdir() if not is_image_name(entry.name)
        )
        return Images(list_images(path), others)
    if not path.exists():
        raise InputError(f"--image {path} does not exist.")
    return Images([path], [])


def read(path: Path, config: Config) -> Tensor:
    """The image of a file, (3, H, W) uint8 RGB.

    Raises:
        InputError: it cannot be read.
    """
    return read_image(path, max_pixels=config.data.max_pixels)


def source(what: str, images: Sequence[Path]) -> str:
    """What a picture is of, by which an earlier one of the same is known."""
    return " ".join([what, *(os.path.realpath(path) for path in images)])


def resized(config: Config, image: Tensor) -> Tensor:
    """The image at the size that the preset tests at."""
    size = (image.shape[1], image.shape[2])
    return policy(config.data, training=False).draw(size, torch.Generator()).image(image)


def detect(subject: Subject, image: Tensor) -> Detections:
    """Detections in the pixels of the image as it was read, at several scales if the config says so.

    Masks are not pasted: `pasted`, `EachMask`.
    """
    tta = subject.config.evaluation.tta
    seen = image if tta.enabled else resized(subject.config, image)
    model = MultiScale(subject.detector, tta) if tta.enabled else subject.detector
    with torch.inference_mode():
        found = model.detect([seen])[0].to("cpu")
    height, width = image.shape[1:]
    factors = torch.tensor([width / seen.shape[2], height / seen.shape[1]]).repeat(2)
    return Detections(found.boxes * factors, found.scores, found.labels, mask_probs=found.mask_probs)


def pasted(found: Detections, image: Tensor) -> Detections:
    """Detections in an image, with the masks that `detect` has not pasted, of all of them together."""
    size = (image.shape[1], image.shape[2])
    masks = None if found.mask_probs is None else paste_masks(found.mask_probs, found.boxes, size)
    return Detections(found.boxes, found.scores, found.labels, masks)


class EachMask(Sequence[Tensor]):
    """The masks (H, W) bool of detections in an image that have some, each pasted when it is asked for."""

    def __init__(self, found: Detections, image: Tensor) -> None:
        self._found, self._image = found, image

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, row: Any) -> Any:
        masks = pasted(self._found.select(torch.tensor([row])), self._image).masks
        assert masks is not None
        return masks[0]


def class_names(trained: TrainedDetector) -> list[str]:
    """What pictures call the classes; says which of them are shown by their ids."""
    categories = trained.categories
    if categories is None:
        return [str(label) for label in range(trained.detector.config.num_classes)]
    shown = class_texts(categories.names, categories.ids)
    ids = [
        id_
        for name, id_, text in zip(categories.names, categories.ids, shown, strict=True)
        if text == f"class {id_}" != name
    ]
    if ids:
        listed = ", ".join(map(str, ids[:_NAMED])) + (", ..." if len(ids) > _NAMED else "")
        text = (
            f"No font here has the letters of {len(ids)} class name(s): pictures show their ids ({listed})."
        )
        stderr.print(text, style="yellow")
    return shown
