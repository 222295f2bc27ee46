"""Where the data is that a preset and options give. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.data.layout import find_split, named_split, present_splits
from srfgan_cli.data.split_files import Layout, Split, SplitFiles
from srfgan_cli.presets.config import DataConfig, SplitConfig


def split_files(config: DataConfig, root: Path | None, split: Split) -> SplitFiles:
    """Where a split is: the files that a config names, the built-in data, or what `--data-root` holds.

    Raises:
        InputError: it is nowhere.
    """
    named = _named(config).get(split)
    if named is not None:
        return named_split(split, named)
    check_root(config, root)
    if config.dataset == "shapes":
        from srfgan_cli.data.shapes import ensure_shapes  # brings torch, which finding files does without

        root = ensure_shapes(config.shapes_train, config.shapes_val, config.shapes_size)
    if root is None:
        also = f", --{split}-json FILE and --{split}-images DIR," if split != "test" else ""
        raise InputError(
            "no data: give --data-root DIR, a folder in COCO layout (train2017/, val2017/,"
            f" annotations/instances_*.json){also} or --dataset shapes"
        )
    return find_split(root, split)


def check_root(config: DataConfig, root: Path | None) -> None:
    """Whether a folder that was named is the data set that is used.

    Raises:
        InputError: it is not.
    """
    if config.dataset == "shapes" and root is not None:
        raise InputError(
            f"--data-root {root} would not be used: data.dataset is the built-in shapes. Add --dataset coco to use "
            "the folder, or leave --data-root out."
        )


def all_splits(config: DataConfig, root: Path | None) -> Layout:
    """All splits of a data set: what `root` holds, and the files that a config names.

    Raises:
        InputError: there are none.
    """
    named = {split: named_split(split, files) for split, files in _named(config).items()}
    if root is None and not named:
        raise InputError(
            "no data: name a folder, or a json and its images: --train-json FILE --train-images DIR"
        )
    if root is None:
        return Layout("COCO", "named", named)
    layout = present_splits(root)
    return replace(layout, splits=layout.splits | named)


def _named(config: DataConfig) -> dict[Split, SplitConfig]:
    named: dict[Split, SplitConfig | None] = {"train": config.train, "val": config.val}
    return {split: files for split, files in named.items() if files is not None}
