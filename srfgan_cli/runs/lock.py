"""One process at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.runs.folder import Run

NAME = ".lock"


class FolderInUse(InputError):  # noqa: N818
    """Another process has a folder."""


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep a folder, which is made, to this process; what a killed one had begun of a run's files is removed.

    The lock is the system's, which frees it when the process ends, however it ends, and does not pass it on to the
    processes that read images. On a file system that knows no locks there is none.

    Raises:
        FolderInUse: another process has it.
        InputError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {error.strerror}.") from None
    try:
        _lock(descriptor, folder)
        _remove_half_written(folder)
        yield
    finally:
        os.close(descriptor)


def require_idle(folder: Path) -> None:
    """Whether no process has the folder now; makes nothing.

    Raises:
        FolderInUse: one has.
    """
    if (folder / NAME).is_file():
        with sole_use(folder):
            pass


def _remove_half_written(folder: Path) -> None:
    """Remove what `write_atomically` had begun of a run's files in a process that has ended; nothing of the user's."""
    for path in Run(folder).files:
        for left in path.parent.glob(f"{path.name}.*.part"):
            process = re.fullmatch(r"\.([1-9]\d{0,8})\.part", left.name.removeprefix(path.name))
            if process and not _is_at_work(int(process[1])):
                with suppress(OSError):
                    left.unlink()


def _is_at_work(process: int) -> bool:
    """Whether another process of this machine is alive; this one, which has the lock, has begun nothing yet."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # one that was killed is there until its parent asks for it, and writes nothing any more
        state = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # as where there is no /proc
        return True
    return state not in "ZX"


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return
        owner = os.read(descriptor, 200).decode(errors="replace").strip()
        raise FolderInUse(
            f"{folder}: another run is at work there{f' ({owner})' if owner else ''}. Wait for it, stop it, or choose "
            "another --output-dir."
        ) from None
    with suppress(OSError):  # a full disk; the lock holds
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
