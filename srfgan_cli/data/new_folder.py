"""A data set's new folder: that nothing is there yet, its images and its files."""

from __future__ import annotations

import json
import os
import posixpath
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.images import ANY_SIZE
from srfgan_cli.data.split_files import Split, SplitFiles
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.machine.sole_writer import sole_writer
from srfgan_cli.screen.progress import progress_bar


def check_new(destination: Path) -> None:
    """See to it that nothing is overwritten.

    Raises:
        InputError: there is something that is no empty folder.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination}: there is something already; name a new folder")


@contextmanager
def new_folder(destination: Path) -> Iterator[None]:
    """Make the folder, this process's own until the block ends.

    Raises:
        InputError: there is something by now, another process writes there, or it cannot be made.
    """
    with sole_writer(destination, "data"):
        check_new(destination)
        yield


def index_to_copy(files: SplitFiles) -> CocoIndex:
    """A checked split whose images are copied, of any size: none is decoded.

    A json or an archive from elsewhere may name files that are not its own, which would be in what is passed on.

    Raises:
        InputError: it cannot be used, or images are outside its folder.
    """
    cure = "only what is in it is copied: put the files themselves there, as cp -L does with links"
    return CocoIndex.of(files.read(), files.images, check=files.check, max_pixels=ANY_SIZE, cure=cure)


def names_below(index: CocoIndex, folder: Path) -> list[str]:
    """What a split's images in `folder` are called in a new one: as they are, without the detours of `..`.

    `../train/1.png` is an image of the folder `train`, and would be none of another folder.
    """
    root = os.path.realpath(folder)

    def name_of(name: str) -> str:
        if ".." not in name.split("/"):
            return posixpath.normpath(name)
        parent, base = posixpath.split(name)
        # By the system and not by the text: what is before the dots may be a link.
        within = os.path.relpath(os.path.realpath(folder / parent), root)
        return posixpath.normpath(posixpath.join(within, base))

    return [name_of(name) for name in index.file_names()]


def place_images(index: CocoIndex, names: Sequence[str], folder: Path, images: Path, *, link: bool) -> None:
    """Put a split's images from `folder` into `images`.

    Args:
        index: the split.
        names: of its N images in the new folder (`names_below`).
        link: hard links instead of copies.

    Raises:
        InputError: one cannot be written.
    """
    placed: set[str] = set()
    with progress_bar() as progress:
        task = progress.add_task(f"images of {'/'.join(images.parts[-2:])}", total=len(index))
        for row, name in enumerate(names):
            image, place = folder / index.file_name(row), images / name
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if name in placed:
                    pass  # one file under several image ids
                elif link:
                    place.hardlink_to(image.resolve())
                else:
                    shutil.copyfile(image, place)
            except OSError as error:
                hint = "; without --link images are copied" if link else ""
                raise InputError(f"{place}: cannot be written ({error.strerror}){hint}") from None
            placed.add(name)
            progress.advance(task)


def write_coco(document: dict[str, Any], destination: Path, split: Split) -> None:
    """Write a split's json where COCO has it."""
    name = f"image_info_{split}2017" if split == "test" else f"instances_{split}2017"
    write_text(destination / "annotations" / f"{name}.json", json.dumps(document))


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))
