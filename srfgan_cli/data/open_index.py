"""The annotations of a split that a config and options name, without what reads images."""

from __future__ import annotations

from pathlib import Path

from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.given import split_files
from srfgan_cli.data.split_files import Split
from srfgan_cli.presets.config import DataConfig


def open_index(
    config: DataConfig, root: Path | None, split: Split, *, count_unusable: bool = False
) -> tuple[CocoIndex, Path]:
    """The checked annotations of a split and the folder of its images; arguments and errors as for `open_split`."""
    files = split_files(config, root, split)
    index = CocoIndex.of(
        files.read(),
        files.images,
        check=files.check,
        outside=config.outside,
        max_pixels=config.max_pixels,
        count_unusable=count_unusable,
    )
    return index, files.images
