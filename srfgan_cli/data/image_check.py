"""The whole check of `srfgan data check`: every annotation, and every image opened."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock

from srfgan_cli.data.check import check_records, describe_image
from srfgan_cli.data.findings import SHOWN, Fate, Problem, Report
from srfgan_cli.data.images import Decoded, ImageError, decode
from srfgan_cli.data.layout import present_splits
from srfgan_cli.data.places import file_kinds
from srfgan_cli.data.records import Records
from srfgan_cli.data.split_files import Layout, Split
from srfgan_cli.data.tally import tally
from srfgan_cli.presets.config import DataConfig
from srfgan_cli.screen.console import stderr
from srfgan_cli.screen.progress import progress_bar

_LARGE = 10_000_000
"""Images of more pixels are read one at a time, so that many threads do not need the memory of many."""

Finding = tuple[str, Fate, str]
"""What is wrong with an image, what happens, and how it shows."""
Seen = dict[bytes, tuple[Split, str]]
"""By the hash of a file's content, the split and the name in it under which it came first."""


def check_root(root: Path, config: DataConfig | None = None) -> list[Report]:
    """Check every split of the data set in a folder; `check_layout` with whatever layout it has."""
    return check_layout(present_splits(root), config)


def check_layout(layout: Layout, config: DataConfig | None = None) -> list[Report]:
    """Check every split of a data set, with a progress bar on stderr.

    Args:
        layout: where the splits are.
        config: which image files may be used; the defaults where there is none.

    Returns:
        By split, what is wrong with it; with an overview of what it holds.

    Raises:
        InputError: a json has not COCO's structure.
    """
    config = config or DataConfig()
    reports = []
    seen: Seen = {}
    for split, lacking in layout.absent.items():
        stderr.print(f"not checked: {split}, {lacking}")
    for split, files in layout.splits.items():
        records = files.read()  # which may show a bar of its own
        with progress_bar() as progress:
            kinds = file_kinds(
                records.file_names,
                records.sizes,
                files.images,
                outside=config.outside,
                max_pixels=config.max_pixels,
            )
            checked = check_records(records, kinds)
            task = progress.add_task(f"reading {files.images.name}", total=checked.report.images)
            stopped = {int(row) for _, _, found in kinds for row in found.nonzero()[0]}
            advance = partial(progress.advance, task)
            unusable = check_images(records, split, files.images, advance, stopped, seen)
            report = checked.report.extended(unusable)
            reports.append(replace(report, overview=tally(records, checked)))
    return reports


def check_images(
    records: Records,
    split: Split,
    folder: Path,
    advance: Callable[[], object],
    without: Collection[int],
    seen: Seen,
) -> list[Problem]:
    """Read every image in threads.

    Args:
        records: the parsed json.
        split: whose they are.
        folder: the image folder.
        advance: called once per image, for a progress bar.
        without: rows of images that are not opened, as other problems stop them.
        seen: the images of the splits before, to which this one's are added.

    Returns:
        One problem per kind found.
    """
    large = Lock()

    def findings_of(row: int) -> tuple[list[Finding], bytes | None]:
        if row in without:
            return [], None
        height, width = records.sizes[row].tolist()
        path = folder / records.file_names[row]
        with large if height * width > _LARGE else nullcontext():
            return list(_findings(path, (height, width))), _digest(path)

    found: dict[tuple[str, Fate], list[str]] = {}
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        for row, (findings, digest) in enumerate(threads.map(findings_of, range(len(records.file_names)))):
            advance()
            if digest is not None:
                findings += _again(seen, digest, split, posixpath.normpath(records.file_names[row]))
            for kind, fate, how in findings:
                found.setdefault((kind, fate), []).append(f"{describe_image(records, row)}: {how}")
    return [
        Problem(kind, fate, len(names), tuple(names[:SHOWN])) for (kind, fate), names in sorted(found.items())
    ]


def _digest(path: Path) -> bytes | None:
    """Of the file's content; None where it cannot be read, which `decode` says."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None


def _again(seen: Seen, digest: bytes, split: Split, name: str) -> Iterator[Finding]:
    """Whether a picture has come before: what is trained on scores too well, and what is there twice counts twice."""
    before, called = seen.setdefault(digest, (split, name))
    if before != split:
        yield (
            "picture that another split has too: its scores will be too good",
            "used as it is",
            f"the same file as {called} of {before}",
        )
    elif called != name:  # one name under two ids is found without opening it
        yield "picture that the split has twice", "used as it is", f"the same file as {called}"


def _findings(path: Path, size: tuple[int, int]) -> Iterator[Finding]:
    try:
        image = decode(path, size, count_frames=True)
    except ImageError as error:
        yield error.kind, "stops", str(error).removeprefix(f"{path}: ")
    else:
        yield from _oddities(image)


def _oddities(image: Decoded) -> Iterator[Finding]:
    """What is odd about an image that can be read."""
    if image.levels is not None and image.levels.sliver:
        low, high, full = image.levels.low, image.levels.high, image.levels.full
        yield (
            "image that uses less than a quarter of its bit depth, so it is read dark or flat",
            "used as it is",
            f"values {low} to {high} of 0 to {full}",
        )
    if image.frames > 1:
        yield (
            "animation, or file of several pages: only the first is used",
            "used as it is",
            f"{image.frames} pictures",
        )
    if image.unturned:
        yield "EXIF data that cannot be read", "used as it is", image.unturned
