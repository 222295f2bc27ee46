"""What `srfgan visualize` does: find a detector and images, draw, and say where the pictures are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from models import build_detector, build_generator
from models.detector import Detector
from models.errors import InputError
from models.ops.masks import paste_masks
from models.structures import Detections
from models.weights import load_weights
from srfgan_cli.config import Config
from srfgan_cli.console import print_path, stderr, styled
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.images import list_images, read_image
from srfgan_cli.data.open import policy
from srfgan_cli.data.shapes import example_image
from srfgan_cli.plan import GENERATORS
from srfgan_cli.presets import load_preset
from srfgan_cli.published import PUBLISHED, published_file
from srfgan_cli.runs import Run, newest_detector
from srfgan_cli.trained import TrainedDetector, load_trained
from srfgan_cli.tta import MultiScale
from srfgan_cli.visualization.detections import draw
from srfgan_cli.visualization.feature_maps import level_maps
from srfgan_cli.visualization.maps import p2_panel

FALLBACK_PRESET = "mask_rcnn_r18_fpn"
"""What is drawn with random weights where there is neither a preset nor a run."""


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
    images = _images(request.image)
    if len(images) > 1:
        raise InputError(f"--image {request.image}: one image makes one panel; name a file.")
    image = _resized(config, read_image(images[0]) if images else example_image())
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
    output = request.output or Path(f"{level}.png")
    _save(p2_panel(image, shown.maps, level=level.lower(), note=note), output)
    return output


def draw_detections(request: Request, score_threshold: float) -> list[Path]:
    """Draw a trained detector's findings into every image, and return the pictures' paths.

    Raises:
        InputError: no trained detector, or an image that cannot be read.
    """
    config, trained = _detector(request)
    if trained is None:
        raise InputError("There is no trained detector to draw with: name a checkpoint with --weights.")
    stderr.print(f"Weights: {trained.path}")
    detector = trained.detector.to(request.device)
    names = _names(trained.categories, detector.config.num_classes)
    paths = _images(request.image)
    folder = request.output or Path("detections")
    written: list[Path] = []
    for name in [path.stem for path in paths] or ["example"]:
        image = read_image(paths[len(written)]) if paths else example_image()
        found = _detect(detector, config, image)
        one_file = folder.suffix and len(paths) <= 1
        output = folder if one_file else folder / f"{name}.png"
        _save(to_pil_image(draw(image, found, names, score_threshold=score_threshold)), output)
        written.append(output)
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


def _images(path: Path | None) -> list[Path]:
    if path is None:
        return []
    if path.is_dir():
        return list_images(path)
    if not path.is_file():
        raise InputError(f"--image {path} does not exist.")
    return [path]


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


def _names(categories: CategoryMap | None, count: int) -> Sequence[str]:
    return categories.names if categories is not None else [str(label) for label in range(count)]


def _save(picture: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot write {path}: {error}.") from None
    print_path(path)
