"""The whole check of `srfgan data check`: every annotation, and every image opened."""

from __future__ import annotations

import os
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
from srfgan_cli.data.split_files import Layout
from srfgan_cli.data.tally import tally
from srfgan_cli.presets.config import DataConfig
from srfgan_cli.screen.console import stderr
from srfgan_cli.screen.progress import progress_bar

_LARGE = 10_000_000
"""Images of more pixels are read one at a time, so that many threads do not need the memory of many."""

Finding = tuple[str, Fate, str]
"""What is wrong with an image, what happens, and how it shows."""


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
    for split, lacking in layout.absent.items():
        stderr.print(f"not checked: {split}, {lacking}")
    for files in layout.splits.values():
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
            unusable = check_images(records, files.images, partial(progress.advance, task), stopped)
            report = checked.report.extended(unusable)
            reports.append(replace(report, overview=tally(records, checked)))
    return reports


def check_images(
    records: Records, folder: Path, advance: Callable[[], object], without: Collection[int]
) -> list[Problem]:
    """Read every image in threads.

    Args:
        records: the parsed json.
        folder: the image folder.
        advance: called once per image, for a progress bar.
        without: rows of images that are not opened, as other problems stop them.

    Returns:
        One problem per kind found.
    """
    large = Lock()

    def findings_of(row: int) -> list[Finding]:
        if row in without:
            return []
        height, width = records.sizes[row].tolist()
        with large if height * width > _LARGE else nullcontext():
            return list(_findings(folder / records.file_names[row], (height, width)))

    found: dict[tuple[str, Fate], list[str]] = {}
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        for row, findings in enumerate(threads.map(findings_of, range(len(records.file_names)))):
            advance()
            for kind, fate, how in findings:
                found.setdefault((kind, fate), []).append(f"{describe_image(records, row)}: {how}")
    return [
        Problem(kind, fate, len(names), tuple(names[:SHOWN])) for (kind, fate), names in sorted(found.items())
    ]


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
