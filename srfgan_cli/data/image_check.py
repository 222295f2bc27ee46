"""The whole check of `srfgan data check`: every annotation, and every image opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from srfgan_cli.console import stderr
from srfgan_cli.data.check import check_records, describe_image
from srfgan_cli.data.coco import missing_files
from srfgan_cli.data.images import ImageError, read_image
from srfgan_cli.data.layout import find_split, present_splits
from srfgan_cli.data.records import Records, read_records
from srfgan_cli.data.report import SHOWN, Problem, Report
from srfgan_cli.progress import progress_bar


def check_root(root: Path) -> list[Report]:
    """Check every split of a data set in COCO layout, with a progress bar on stderr.

    Raises:
        InputError: `root` has not the layout, or a json has not COCO's structure.
    """
    reports = []
    present, without_images = present_splits(root)
    for split in without_images:
        stderr.print(f"{root}: not checked: {split}, which has annotations but no {split}2017/")
    with progress_bar() as progress:
        for split in present:
            files = find_split(root, split)
            records = read_records(files.json)
            report = check_records(records, missing_files(records.file_names, files.images)).report
            task = progress.add_task(f"reading {files.images.name}", total=report.images)
            unusable = check_images(records, files.images, partial(progress.advance, task))
            reports.append(report.extended(unusable))
    return reports


def check_images(records: Records, folder: Path, advance: Callable[[], object]) -> list[Problem]:
    """Read every image in threads.

    Args:
        records: the parsed json.
        folder: the image folder.
        advance: called once per image, for a progress bar.

    Returns:
        One problem per kind found. Missing files are left out: `check_records` lists those.
    """

    def fault_of(row: int) -> ImageError | None:
        height, width = records.sizes[row].tolist()
        try:
            read_image(folder / records.file_names[row], (height, width))
        except ImageError as error:
            return error
        return None

    found: dict[str, list[str]] = {}
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        for row, fault in enumerate(threads.map(fault_of, range(len(records.file_names)))):
            advance()
            if fault is not None and fault.kind != "missing image file":
                reason = str(fault).removeprefix(f"{folder / records.file_names[row]}: ")
                found.setdefault(fault.kind, []).append(f"{describe_image(records, row)}: {reason}")
    return [Problem(kind, "stops", len(names), tuple(names[:SHOWN])) for kind, names in found.items()]
