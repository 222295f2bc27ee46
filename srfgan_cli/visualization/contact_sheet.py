"""Images as training gets them, with their targets, on one sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from srfgan.models.structures import Target
from srfgan_cli.data.dataset import DetectionDataset
from srfgan_cli.data.loaders import Loader, build_test_loader, build_train_loader
from srfgan_cli.data.repeats import repeat_factors
from srfgan_cli.presets.config import Config
from srfgan_cli.visualization.detections import draw
from srfgan_cli.visualization.truth import as_detections

_CELL = 480
"""Pixels of a picture's longer side."""
_DARK = (24, 24, 24)
_GAP = 8
_COLUMNS = 4


def contact_sheet(dataset: DetectionDataset, config: Config, *, training: bool, count: int) -> Image.Image:
    """The first images of a training with their targets, augmented as it gets them.

    Args:
        dataset: opened as for training, or as for scores.
        config: of the training: its seed decides which images come first, and how.
        training: through the training's loader; otherwise the images in their order.
        count: of images.

    Raises:
        InputError: an image cannot be read.
    """
    if training:
        threshold = config.data.repeat_threshold
        loader = build_train_loader(
            dataset,
            batch_size=1,
            repeats=None if threshold is None else repeat_factors(dataset, threshold),
            group_factor=config.data.aspect_ratio_group_factor,
            seed=config.seed,
        )
    else:
        loader = build_test_loader(dataset)
    names = dataset.categories.names
    first = _first(loader, min(count, len(dataset)))
    return on_one_sheet([with_target(image, target, names) for image, target in first], _CELL, _DARK)


def _first(loader: Loader, count: int) -> Iterator[tuple[Tensor, Target]]:
    for number, batch in enumerate(loader, start=1):
        yield batch.images[0], batch.targets[0]
        if number == count:
            return


def with_target(image: Tensor, target: Target, names: Sequence[str]) -> Image.Image:
    """An image (3, H, W) uint8 with its target drawn over it.

    Args:
        names: of the classes, by label.
    """
    truth = as_detections(target, (image.shape[1], image.shape[2]))
    picture: Image.Image = to_pil_image(draw(image, truth, names, scores=False))
    return picture


def on_one_sheet(pictures: Sequence[Image.Image], cell: int, background: tuple[int, int, int]) -> Image.Image:
    """Pictures in rows of four, which are shrunk to a longer side of at most `cell` pixels."""
    for picture in pictures:
        picture.thumbnail((cell, cell))
    rows = [pictures[first : first + _COLUMNS] for first in range(0, len(pictures), _COLUMNS)]
    heights = [max(picture.height for picture in row) for row in rows]
    width = max(sum(picture.width + _GAP for picture in row) for row in rows) + _GAP
    sheet = Image.new("RGB", (width, sum(heights) + _GAP * (len(rows) + 1)), background)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        for picture in row:
            sheet.paste(picture, (left, top))
            left += picture.width + _GAP
        top += height + _GAP
    return sheet
