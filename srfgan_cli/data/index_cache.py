"""Checked annotations of large jsons, in the user's cache folder: the next start neither parses nor checks them."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import safetensors.numpy
from filelock import FileLock

from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.findings import Problem, Report
from srfgan_cli.machine.files import cache_folder, file_hash, write_atomically

SMALLEST = 10_000_000
"""Bytes of a json that is worth keeping; it takes half a second to read."""
LARGEST = 4 * 2**30
"""Bytes of all that is kept; what was not used for longest goes first."""
_COARSEST = 3_000_000_000
"""Nanoseconds in which a file system may tell no two times apart: FAT has those of two seconds."""


def kept_path(path: Path, *, count_unusable: bool) -> Path | None:
    """Where an index of this json is kept, or would be; None of what is small or no json.

    The name tells the json's content, how it was checked, and the code that reads and checks.
    """
    try:
        if path.suffix != ".json" or path.stat().st_size < SMALLEST:
            return None
        content = file_hash(path)
    except (OSError, ValueError):  # for the reader, which says what is wrong
        return None
    code = sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))
    name = sha256(f"{content} {count_unusable} {code.hexdigest()}".encode()).hexdigest()
    return cache_folder() / "annotations" / f"{name}.safetensors"


def written_at(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written; None of one written just now, when it may not, or that is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if abs(time.time_ns() - status.st_mtime_ns) < _COARSEST:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


def load_kept(kept: Path, path: Path) -> CocoIndex | None:
    """The index that is kept there, of the json at `path`; None if there is none, or not what was saved."""
    try:
        with safetensors.safe_open(kept, "np") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        index = _index(path, metadata["rest"], arrays)
        if _seal(index, metadata["rest"]) != metadata["seal"]:
            raise ValueError
    except Exception:  # of any type: whatever is there, the json has the same
        with suppress(OSError):
            kept.unlink()
        return None
    with suppress(OSError):
        os.utime(kept)
    return index


def keep(index: CocoIndex, kept: Path) -> None:
    """Save an index, if there is a place for it, and nobody else is just saving one."""
    rest = _rest(index)
    metadata = {"rest": rest, "seal": _seal(index, rest)}
    with suppress(OSError, InputError, NotImplementedError, safetensors.SafetensorError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Of a run's processes, which all come here at once, the first that takes the lock.
        with FileLock(kept.parent / ".lock", timeout=0):
            if not kept.exists():
                # By the file's name, which spares a copy of all arrays.
                write_atomically(
                    kept, lambda file: safetensors.numpy.save_file(_arrays(index), file.name, metadata)
                )
            _make_room(kept.parent)


def _make_room(folder: Path) -> None:
    files = [(file.stat(), file) for file in folder.iterdir()]
    total = 0
    for status, file in sorted(files, key=lambda each: each[0].st_mtime, reverse=True):
        total += status.st_size
        if total > LARGEST:
            file.unlink()


def _arrays(index: CocoIndex) -> dict[str, np.ndarray]:
    return {name: value for name, value in vars(index).items() if isinstance(value, np.ndarray)}


def _rest(index: CocoIndex) -> str:
    """What is no array, but for the json's place."""
    report = index.report
    return json.dumps(
        {
            "categories": index.categories.to_records(),
            "annotated": index.annotated,
            "left_out": index.left_out,
            "images": report.images,
            "annotations": report.annotations,
            "problems": [asdict(problem) for problem in report.problems],
        }
    )


def _index(path: Path, rest: str, arrays: dict[str, np.ndarray]) -> CocoIndex:
    found = json.loads(rest)
    problems = tuple(Problem(**{**each, "first": tuple(each["first"])}) for each in found["problems"])
    return CocoIndex(
        path=path,
        categories=CategoryMap.from_records(found["categories"], str(path)),
        annotated=found["annotated"],
        report=Report(path, found["images"], found["annotations"], problems),
        left_out=found["left_out"],
        **arrays,
    )


def _seal(index: CocoIndex, rest: str) -> str:
    """Tells whether anything has changed since."""
    kinds = [(name, str(value.dtype), value.shape) for name, value in _arrays(index).items()]
    return sha256(f"{rest} {kinds} {index.digest()}".encode()).hexdigest()
