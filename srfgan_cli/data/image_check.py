"""Opening every image of a data set to see that it can be read; for `srfgan data check` only."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from srfgan_cli.data.check import SHOWN, Problem, describe_image
from srfgan_cli.data.images import ImageError, read_image
from srfgan_cli.data.records import Records


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
