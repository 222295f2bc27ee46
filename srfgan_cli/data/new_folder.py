"""A data set's new folder: that nothing is there yet, its images and its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.split_files import Split
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.screen.progress import progress_bar


def check_new(destination: Path) -> None:
    """See to it that nothing is overwritten.

    Raises:
        InputError: there is something that is no empty folder.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination}: there is something already; name a new folder")


def place_images(index: CocoIndex, folder: Path, images: Path, *, link: bool) -> None:
    """Put a split's images from `folder` under the same names into `images`.

    Args:
        link: hard links instead of copies.

    Raises:
        InputError: one cannot be written.
    """
    with progress_bar() as progress:
        task = progress.add_task(f"images of {'/'.join(images.parts[-2:])}", total=len(index))
        for row in range(len(index)):
            name = index.file_name(row)
            place = images / name
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if link:
                    place.hardlink_to((folder / name).resolve())
                else:
                    shutil.copyfile(folder / name, place)
            except OSError as error:
                hint = "; without --link images are copied" if link else ""
                raise InputError(f"{place}: cannot be written ({error.strerror}){hint}") from None
            progress.advance(task)


def write_coco(document: dict[str, Any], destination: Path, split: Split) -> None:
    """Write a split's json where COCO has it."""
    name = f"image_info_{split}2017" if split == "test" else f"instances_{split}2017"
    write_text(destination / "annotations" / f"{name}.json", json.dumps(document))


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))
