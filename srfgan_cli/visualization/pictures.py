"""Files of pictures: one of a single thing, or one for each image, all told to the user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import Image

from srfgan.models.errors import InputError
from srfgan_cli.screen.console import print_path, stderr
from srfgan_cli.visualization.outputs import (
    check_output,
    is_ours,
    is_picture_name,
    picture_names,
    save_as,
    save_beside,
    save_where_wanted,
)
from srfgan_cli.visualization.request import Images, Request, find_images, source

_NAMED = 10
"""How many skipped files are named."""

Read = TypeVar("Read")


def the_one_image(request: Request) -> list[Path]:
    """The image of a panel, as a list; empty for the built-in one.

    Raises:
        InputError: there are several, or `--output` cannot be what it is to be.
    """
    images = find_images(request.image).paths
    if len(images) > 1:
        raise InputError(f"--image {request.image}: one image makes one panel; name a file.")
    if request.output is not None:
        check_output(request.output, images)
    return images


def save_panel(panel: Image.Image, name: str, request: Request, images: list[Path]) -> Path:
    """Save the panel of one image where the user wants it, or as `name`.png, and tell."""
    default, of = Path(f"{name}.png"), source(name, images)
    return _told(save_where_wanted(panel, request.output, default, of=of, images=images))


def images_of(request: Request) -> Images:
    """The images of which there is to be a picture each.

    Raises:
        InputError: there is none, or `--output` cannot be what it is to be.
    """
    found = find_images(request.image)
    if request.output is not None and _is_file(request.output):
        if len(found.paths) > 1:
            raise InputError(
                f"--output {request.output}: several images make several pictures; name a folder."
            )
        check_output(request.output, found.paths)
    return found


def save_pictures(
    found: Images,
    name: str,
    request: Request,
    read: Callable[[Path | None], Read],
    drawn: Callable[[Read], Image.Image],
) -> list[Path]:
    """Draw a picture of each image, and save them where the user wants them, or in the folder `name`; tell of each.

    Args:
        found: the images; without any, the built-in one is drawn.
        name: what the pictures show.
        request: names the output.
        read: from an image's path, or None for the built-in one, to what is drawn.
        drawn: a picture of it.

    Raises:
        InputError: images that cannot be read, all of them, after the others are drawn; or a picture not be written.
    """
    if request.output is not None and _is_file(request.output):
        save_as(drawn(read(found.paths[0] if found.paths else None)), request.output)
        return [_told(request.output)]
    folder = request.output or Path(name)
    if not found.paths:
        return [_told(save_beside(drawn(read(None)), folder / "example.png", of="example", images=()))]
    return _save_all(found, name, folder, read, drawn)


def _save_all(
    found: Images,
    name: str,
    folder: Path,
    read: Callable[[Path | None], Read],
    drawn: Callable[[Read], Image.Image],
) -> list[Path]:
    # Where pictures go beside their images, those of an earlier run are no images to draw into.
    earlier = [path for path in found.paths if path.parent.resolve() == folder.resolve() and is_ours(path)]
    images = [path for path in found.paths if path not in earlier]
    others = [*found.others, *(path.name for path in earlier)]
    written, unreadable = [], []
    for path, file_name in zip(images, picture_names(images), strict=True):
        try:
            image = read(path)
        except InputError as error:
            unreadable.append(str(error))
            continue
        of = source(name, [path])
        written.append(_told(save_beside(drawn(image), folder / file_name, of=of, images=images)))
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


def _is_file(output: Path) -> bool:
    return is_picture_name(output) and not output.is_dir()


def _told(path: Path) -> Path:
    print_path(path)
    return path
