"""The annotations of a split that a config and options name, without what reads images."""

from __future__ import annotations

from pathlib import Path

from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.given import split_files
from srfgan_cli.data.index_cache import keep, kept_path, load_kept, written_at
from srfgan_cli.data.places import file_kinds
from srfgan_cli.data.split_files import Split, SplitFiles
from srfgan_cli.presets.config import DataConfig


def open_index(
    config: DataConfig, root: Path | None, split: Split, *, count_unusable: bool = False
) -> tuple[CocoIndex, Path]:
    """The checked annotations of a split and the folder of its images; arguments and errors as for `open_split`.

    Those of a large json are read and checked once, and come from the user's cache from then on (`index_cache`).
    """
    files = split_files(config, root, split)
    written = written_at(files.path)
    kept = kept_path(files.path, count_unusable=count_unusable)
    index = load_kept(kept, files.path) if kept else None
    if index is not None and _all_there(index, files, config):
        return index, files.images
    index = CocoIndex.of(
        files.read(),
        files.images,
        check=files.check,
        outside=config.outside,
        max_pixels=config.max_pixels,
        count_unusable=count_unusable,
    )
    # The json may have been written anew since its content named the place.
    same = written is not None and written == written_at(files.path)
    if kept and (same or kept == kept_path(files.path, count_unusable=count_unusable)):
        keep(index, kept)
    return index, files.images


def _all_there(index: CocoIndex, files: SplitFiles, config: DataConfig) -> bool:
    """Whether nothing is wrong with the image files, which is not kept; where something is, the whole check says it."""
    kinds = file_kinds(
        index.file_names(),
        index.sizes,
        files.images,
        outside=config.outside,
        max_pixels=config.max_pixels,
    )
    return not any(found.any() for _, _, found in kinds)
