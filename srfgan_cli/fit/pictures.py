"""The page's pictures: the panel of the pyramid, ground truth beside both detectors, and the training curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan.models.structures import Detections
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.dataset import DetectionDataset
from srfgan_cli.data.open import open_split
from srfgan_cli.data.shapes import example_image
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.library import load_preset
from srfgan_cli.runs.folder import Run
from srfgan_cli.runs.trained import load_trained
from srfgan_cli.visualization.contact_sheet import with_target
from srfgan_cli.visualization.curves import curves
from srfgan_cli.visualization.detections import draw
from srfgan_cli.visualization.feature_maps import level_maps
from srfgan_cli.visualization.maps import p2_panel
from srfgan_cli.visualization.palette import with_palette
from srfgan_cli.visualization.text import Lettering

EXAMPLES = 4
"""The first images of the val split are shown, so that nothing is picked by how well it went."""
SCORE_THRESHOLD = 0.3
PANEL_SIDE = 256
"""Pixels of the built-in data's scene: twice what the demo trains with, so that its maps have detail to show."""

_STRIP_WIDTH = 1560
_GAP = 12
_TITLE = 44


@dataclass(frozen=True)
class Pictures:
    """Files of the page's pictures.

    Attributes:
        panel: the finest level of the trained target detector by three methods.
        level: which that is, as `P2`.
        examples: one strip per val image: ground truth, baseline, method.
        curves: losses by step name.
    """

    panel: Path
    level: str
    examples: tuple[Path, ...]
    curves: dict[str, Path]


def draw_pictures(
    config: Config,
    runs: Mapping[str, Run],
    target: str,
    folder: Path,
    data_root: Path | None,
    device: torch.device,
) -> tuple[Pictures, int]:
    """Draw everything from finished runs.

    Args:
        config: the method's.
        runs: by step name; `baseline` holds the plain detector.
        target: the name of the one that holds the method's.
        folder: where the files go.
        data_root: where the data set is a folder.
        device: `cpu` or `cuda`.

    Returns:
        The pictures, and how many images the val split has.

    Raises:
        InputError: a run or the data cannot be read, or a picture not be written.
    """
    val = open_split(config.data, data_root, "val", training=False, masks=config.model.has_masks)
    plain, method = (_trained(runs[name], val.categories).to(device) for name in ("baseline", target))
    upsampler, level = config.model.neck.upsampler, method.config.levels[0]
    scene = example_image(PANEL_SIDE) if config.data.dataset == "shapes" else val[(0, 0)].image
    methods = list(dict.fromkeys(("nn", "bilinear", upsampler)))
    files = {
        f"{level}.png": p2_panel(scene, level_maps(method, scene, methods, level=level).maps, level=level)
    }
    for number in range(min(EXAMPLES, len(val))):
        files[f"detections-{number + 1}.jpg"] = example(val, number, {"nn": plain, upsampler: method})
    for name, run in runs.items():
        files[f"curves-{name}.png"] = with_palette(curves({name: run.metrics}))
    paths = _saved(files, folder)
    drawn = Pictures(
        panel=paths[f"{level}.png"],
        level=level.upper(),
        examples=tuple(path for name, path in paths.items() if name.startswith("detections")),
        curves={name: paths[f"curves-{name}.png"] for name in runs},
    )
    return drawn, len(val)


def _trained(run: Run, categories: CategoryMap) -> Detector:
    return load_trained(load_preset(run.config), run.model, categories).detector


def example(val: DetectionDataset, number: int, detectors: Mapping[str, Detector]) -> Image.Image:
    """One image's ground truth and what each detector finds in it, side by side."""
    sample = val[(number, 0)]
    names = val.categories.names
    pictures = {"ground truth": with_target(sample.image, sample.target, names)}
    for title, detector in detectors.items():
        found = _found(detector, sample.image)
        pictures[title] = to_pil_image(draw(sample.image, found, names, score_threshold=SCORE_THRESHOLD))
    return _side_by_side(pictures)


def _found(detector: Detector, image: Tensor) -> Detections:
    with torch.inference_mode():
        found: list[Detections] = detector([image])
    return found[0]


def _side_by_side(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Pictures in a row on white, each under its title."""
    width = (_STRIP_WIDTH - _GAP * (len(pictures) - 1)) // len(pictures)
    scaled = [_to_width(picture, width) for picture in pictures.values()]
    strip = Image.new("RGB", (_STRIP_WIDTH, _TITLE + max(each.height for each in scaled)), "white")
    pen = ImageDraw.Draw(strip)
    for column, (title, picture) in enumerate(zip(pictures, scaled, strict=True)):
        left = column * (width + _GAP)
        Lettering(22).draw(pen, (left + 2, _TITLE / 2 + 8), title, (30, 30, 30))
        strip.paste(picture, (left, _TITLE))
    return strip


def _to_width(picture: Image.Image, width: int) -> Image.Image:
    height = round(picture.height * width / picture.width)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _saved(files: Mapping[str, Image.Image], folder: Path) -> dict[str, Path]:
    paths = {name: folder / name for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in files.items():
            if name.endswith(".jpg"):
                picture.save(paths[name], quality=88)
            else:
                picture.save(paths[name], optimize=True)
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {error.strerror or error}.") from None
    return paths
