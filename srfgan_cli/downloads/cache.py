"""The folder of fetched weights: each file with the hash that it had when it came."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from srfgan.models.errors import InputError
from srfgan_cli.downloads.places import cached_path
from srfgan_cli.downloads.transfer import Report, TransferError, transfer
from srfgan_cli.machine.files import file_hash
from srfgan_cli.screen.console import stderr
from srfgan_cli.screen.progress import WordsColumn

Check = Callable[[Path], object]
"""Reads a file that came and raises InputError if it is not what it should be."""


def fetch(url: str, check: Check) -> Path:
    """The file of an address: from the cache, or fetched into it.

    Of several processes one fetches and the others wait for it. A file is taken into the cache whole and
    readable only; beside it `<name>.sha256` (as `sha256sum -c` reads it) says what it was when it came first.
    A file that was put there by hand is taken as it is.

    Args:
        url: an http(s) address; of Google Drive and Dropbox, the one that they show.
        check: reads the file before it is taken.

    Raises:
        InputError: it cannot be had, is no checkpoint, or is another file than it was; says what to put where.
    """
    path = cached_path(url)
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path, url):
                if not path.is_file():
                    _download(url, path, check)
                    return path
        _verify(path, url)
    except OSError as error:
        raise InputError(f"Cannot read or write {path}: {error.strerror or error}.") from None
    return path


def _download(url: str, path: Path, check: Check) -> None:
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    by_hand = f"Fetch it by hand, as in a browser, and put it to {path}."
    stderr.print(f"Fetching {url}")
    try:
        with _bar(path.name) as report:
            transfer(url, part, report)
    except TransferError as error:
        raise InputError(f"{url} {error}. {by_hand}") from None
    try:
        check(part)
    except InputError as error:
        part.unlink()
        raise InputError(f"{url} gave no checkpoint. {by_hand}\n{error}") from None
    found, recorded = file_hash(part), _recorded(path)
    if recorded not in (None, found):
        part.unlink()
        raise InputError(
            f"{url} gives another file now: its sha256 is {found}, that of the first one was {recorded}. "
            f"Delete {_record(path)} to take the new one."
        )
    _record(path).write_text(f"{found}  {path.name}\n", encoding="utf-8")
    part.replace(path)
    stderr.print(f"Saved to {path}, sha256 {found}")


def _verify(path: Path, url: str) -> None:
    """Refuse a file that is not what came from `url`; without a record it was put there by hand."""
    recorded = _recorded(path)
    if recorded is None or recorded == (found := file_hash(path)):
        return
    raise InputError(
        f"{path} is not the file that came from {url}: its sha256 is {found}, {_record(path).name} says {recorded}. "
        f"Delete {path} to fetch it again, or {_record(path)} to use it as it is."
    )


def _recorded(path: Path) -> str | None:
    record = _record(path)
    return record.read_text(encoding="utf-8").partition(" ")[0] if record.is_file() else None


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


@contextmanager
def _alone(path: Path, url: str) -> Iterator[None]:
    """Hold the file's lock, which the system frees when a process dies."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        if os.environ.get("RANK", "0") == "0":
            stderr.print(f"Waiting for the process that fetches {url}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _bar(name: str) -> Iterator[Report]:
    """A progress bar on stderr; gives what to call with the bytes done and the file's size."""
    columns = (BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(WordsColumn(), *columns, console=stderr) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)
