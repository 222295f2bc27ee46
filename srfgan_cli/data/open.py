"""The one entry to data that the commands use; `open_index` is that to annotations alone."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from srfgan.models.config import StrictConfig
from srfgan.models.errors import InputError
from srfgan_cli.data.colours import ColourPolicy
from srfgan_cli.data.crop import CropPolicy
from srfgan_cli.data.dataset import DetectionDataset
from srfgan_cli.data.open_index import open_index
from srfgan_cli.data.rotation import RotationPolicy
from srfgan_cli.data.scale_jitter import ScaleJitterPolicy
from srfgan_cli.data.split_files import Split
from srfgan_cli.data.transforms import OriginalSize, ResizePolicy
from srfgan_cli.presets.config import DataConfig

Policy = TypeVar("Policy")


def open_split(
    config: DataConfig,
    root: Path | None,
    split: Split,
    *,
    training: bool,
    masks: bool | None = None,
    resize: bool = True,
    count_unusable: bool = False,
) -> DetectionDataset:
    """Open one split of a data set, checked.

    Args:
        config: which data set and how images are resized.
        root: `--data-root`; for `coco`, needed where `config` does not name the split's files.
        split: `train`, `val` or `test`; `shapes` has no `test`.
        training: draw crops, sizes and flips, and leave out images without targets if `config` says so; otherwise every
            image, at the one test size.
        masks: whether the model learns masks; None: if there are any.
        resize: otherwise images keep their files' size.
        count_unusable: keep objects of no area or outside their image, for scores that count them as missed.

    Raises:
        InputError: the folder, the json or the data in it cannot be used.
    """
    index, folder = open_index(config, root, split, count_unusable=count_unusable)
    if training and not index.annotated:
        raise InputError(f"{index.path}: there is no 'annotations' key, so nothing to train on")
    if masks is None:
        masks = bool(index.has_mask.any())
    return DetectionDataset(
        index,
        folder,
        policy(config, training) if resize else OriginalSize(),
        masks=masks and index.annotated,
        skip_empty=training and config.skip_empty,
    )


def check_same_categories(train: DetectionDataset, val: DetectionDataset) -> None:
    """A detector trained on one split can only be scored on another with the same categories.

    Raises:
        InputError: the ids or names differ; names both files and the first difference.
    """
    ours = list(zip(train.categories.ids, train.categories.names, strict=True))
    theirs = list(zip(val.categories.ids, val.categories.names, strict=True))
    if ours != theirs:
        only = sorted(set(ours) ^ set(theirs))[0]
        where, other = (train, val) if only in ours else (val, train)
        raise InputError(
            f"{where.index.path} has the category {only[0]} {only[1]!r}, but {other.index.path} has not;"
            " the splits of a data set must list the same categories"
        )


def policy(config: DataConfig, training: bool) -> ResizePolicy:
    """How a config resizes images, and augments those for training."""
    if not training:
        return ResizePolicy((config.test_short_side,), config.test_max_side)
    return ResizePolicy(
        tuple(config.short_sides),
        config.max_side,
        config.flip,
        rotation=_made(RotationPolicy, config.rotation),
        crop=_crop(config),
        scale_jitter=_made(ScaleJitterPolicy, config.scale_jitter),
        colours=_made(ColourPolicy, config.colour),
        mosaic=config.mosaic.probability if config.mosaic else 0.0,
        copy_paste=config.copy_paste.probability if config.copy_paste else 0.0,
    )


def _crop(config: DataConfig) -> CropPolicy | None:
    crop = config.crop
    if crop is None:
        return None
    return CropPolicy(crop.probability, tuple(crop.short_sides), crop.smallest, crop.largest)


def _made(kind: type[Policy], config: StrictConfig | None) -> Policy | None:
    return None if config is None else kind(**config.model_dump())
