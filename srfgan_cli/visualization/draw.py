"""What `srfgan visualize` does: find a detector and images, draw, and say where the pictures are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from srfgan.models import build_detector, build_generator
from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.ops.masks import paste_masks
from srfgan.models.structures import Detections
from srfgan.models.upsamplers import GENERATORS
from srfgan.models.weights import load_weights
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.images import is_image_name, list_images, read_image
from srfgan_cli.data.open import policy
from srfgan_cli.data.shapes import example_image
from srfgan_cli.evaluation.tta import MultiScale
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import Config
from srfgan_cli.runs.folder import Run, newest_detector
from srfgan_cli.runs.published import PUBLISHED, published_file
from srfgan_cli.runs.trained import TrainedDetector, load_trained
from srfgan_cli.screen.console import print_path, stderr, styled
from srfgan_cli.visualization.detections import draw
from srfgan_cli.visualization.feature_maps import level_maps
from srfgan_cli.visualization.maps import p2_panel
from srfgan_cli.visualization.outputs import (
    check_output,
    is_ours,
    is_picture_name,
    picture_names,
    save_as,
    save_beside,
)
from srfgan_cli.visualization.text import class_texts

FALLBACK_PRESET = "mask_rcnn_r18_fpn"
"""What is drawn with random weights where there is neither a preset nor a run."""


_NAMED = 10
"""How many skipped files, and classes shown by their ids, are named."""


@dataclass(frozen=True)
class _Found:
    """What `--image` names: the images, and the names of a folder's other entries."""

    paths: list[Path]
    others: list[str]


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


def draw_level(request: Request, level: str, methods: Sequence[str]) -> Path:
    """Write the panel of one pyramid level by several methods, and return its path.

    Raises:
        InputError: an unknown method, or a detector or image that cannot be read.
    """
    images = _images(request.image).paths
    if len(images) > 1:
        raise InputError(f"--image {request.image}: one image makes one panel; name a file.")
    if request.output is not None:
        check_output(request.output, images)
    config, trained = _detector(request)
    if trained is None:
        torch.manual_seed(config.seed)
        stderr.print(
            styled(
                ("No trained weights found: the maps are those of random weights.", "yellow"),
                " Name some with --weights.",
            )
        )
        detector = build_detector(config.model).eval()
    else:
        stderr.print(f"Weights: {trained.path}")
        detector = trained.detector
    detector.to(request.device)
    image = _resized(config, _read(images[0], config) if images else example_image())
    shown = level_maps(
        detector, image, methods, level=level.lower(), generators=_generators(request, config, detector)
    )
    note = "random weights" if trained is None else ""
    if shown.untrained and trained is not None:
        note = f"untrained: {', '.join(shown.untrained)}"
        stderr.print(
            f"The weights hold no generator for {', '.join(shown.untrained)}: its map is of random weights.",
            style="yellow",
        )
    panel = p2_panel(image, shown.maps, level=level.lower(), note=note)
    if request.output is not None:
        save_as(panel, request.output)
        return _told(request.output)
    return _told(save_beside(panel, Path(f"{level}.png"), of=_source(level, images), images=images))


def draw_detections(request: Request, score_threshold: float) -> list[Path]:
    """Draw a trained detector's findings into every image, and return the pictures' paths.

    Files of a folder that are no images are named; so are, at the end, images that cannot be read.

    Raises:
        InputError: no trained detector, or an image that cannot be read, after the others are drawn.
    """
    found = _images(request.image)
    one_file = request.output is not None and is_picture_name(request.output) and not request.output.is_dir()
    if request.output is not None and one_file:
        if len(found.paths) > 1:
            raise InputError(
                f"--output {request.output}: several images make several pictures; name a folder."
            )
        check_output(request.output, found.paths)
    config, trained = _detector(request)
    if trained is None:
        raise InputError("There is no trained detector to draw with: name a checkpoint with --weights.")
    stderr.print(f"Weights: {trained.path}")
    detector = trained.detector.to(request.device)
    class_names = _class_names(trained.categories, detector.config.num_classes)

    def drawn(image: Tensor) -> Image.Image:
        detections = _detect(detector, config, image)
        picture: Image.Image = to_pil_image(
            draw(image, detections, class_names, score_threshold=score_threshold)
        )
        return picture

    if request.output is not None and one_file:
        image = _read(found.paths[0], config) if found.paths else example_image()
        save_as(drawn(image), request.output)
        return [_told(request.output)]
    folder = request.output or Path("detections")
    if not found.paths:
        example = save_beside(drawn(example_image()), folder / "example.png", of="example", images=())
        return [_told(example)]
    return _draw_all(found, folder, config, drawn)


def _draw_all(
    found: _Found, folder: Path, config: Config, drawn: Callable[[Tensor], Image.Image]
) -> list[Path]:
    """One picture in `folder` for each image that can be read.

    Raises:
        InputError: those that cannot, all of them, after the others are drawn.
    """
    # Where pictures go beside their images, those of an earlier run are no images to draw into.
    earlier = [path for path in found.paths if path.parent.resolve() == folder.resolve() and is_ours(path)]
    images = [path for path in found.paths if path not in earlier]
    others = [*found.others, *(path.name for path in earlier)]
    written, unreadable = [], []
    for path, name in zip(images, picture_names(images), strict=True):
        try:
            image = _read(path, config)
        except InputError as error:
            unreadable.append(str(error))
            continue
        of = _source("detections", [path])
        written.append(_told(save_beside(drawn(image), folder / name, of=of, images=images)))
    if others:
        shown = ", ".join(others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
        text = f"Skipped, as no images or pictures of an earlier run: {len(others)} ({shown})"
        stderr.print(text)
    if unreadable:
        if len(images) == 1:
            raise InputError(unreadable[0])
        lines = "".join(f"\n  {line}" for line in unreadable)
        raise InputError(
            f"{len(unreadable)} of {len(images)} images cannot be read; the others are drawn:{lines}"
        )
    return written


def _detector(request: Request) -> tuple[Config, TrainedDetector | None]:
    """The config to draw with, and the trained detector: the file named, the preset's run, or the newest run."""
    path = request.weights
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
    elif not path.is_file():
        raise InputError(f"The weights {path} do not exist.")
    config = load_preset(request.preset or _preset_of(path) or FALLBACK_PRESET, request.overrides)
    return config, load_trained(config, path) if path is not None else None


def _preset_of(path: Path | None) -> str | None:
    """The resolved config that our runs keep beside their weights."""
    beside = path.parent / "config.yaml" if path is not None else None
    return str(beside) if beside is not None and beside.is_file() else None


def _generators(request: Request, config: Config, detector: Detector) -> dict[str, nn.Module]:
    """A generator named on the command line, by its method."""
    if request.generator is None:
        return {}
    method = config.model.neck.upsampler if config.model.neck.upsampler in GENERATORS else GENERATORS[0]
    generator = build_generator(method, detector.config.neck.channels)
    path = published_file(config) if request.generator == PUBLISHED else request.generator
    load_weights(generator, path, strict=True)
    return {method: generator}


def _images(path: Path | None) -> _Found:
    if path is None:
        return _Found([], [])
    if path.is_dir():
        others = sorted(
            entry.name + "/" * entry.is_dir() for entry in path.iterdir() if not is_image_name(entry.name)
        )
        return _Found(list_images(path), others)
    if not path.exists():
        raise InputError(f"--image {path} does not exist.")
    return _Found([path], [])


def _read(path: Path, config: Config) -> Tensor:
    return read_image(path, max_pixels=config.data.max_pixels)


def _source(what: str, images: Sequence[Path]) -> str:
    """What a picture is of, by which an earlier one of the same is known."""
    return " ".join([what, *(os.path.realpath(path) for path in images)])


def _resized(config: Config, image: Tensor) -> Tensor:
    """The image at the size that the preset tests at."""
    size = (image.shape[1], image.shape[2])
    return policy(config.data, training=False).draw(size, torch.Generator()).image(image)


def _detect(detector: Detector, config: Config, image: Tensor) -> Detections:
    """Detections in the pixels of the image as it was read, masks pasted; at several scales if the config says so."""
    tta = config.evaluation.tta
    resized = image if tta.enabled else _resized(config, image)
    model = MultiScale(detector, tta) if tta.enabled else detector
    with torch.inference_mode():
        found = model.detect([resized])[0].to("cpu")
    height, width = image.shape[1:]
    factors = torch.tensor([width / resized.shape[2], height / resized.shape[1]]).repeat(2)
    boxes = found.boxes * factors
    masks = None if found.mask_probs is None else paste_masks(found.mask_probs, boxes, (height, width))
    return Detections(boxes, found.scores, found.labels, masks)


def _class_names(categories: CategoryMap | None, count: int) -> list[str]:
    """What pictures call the classes; says which of them are shown by their ids."""
    if categories is None:
        return [str(label) for label in range(count)]
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


def _told(path: Path) -> Path:
    print_path(path)
    return path
