"""One process at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from srfgan.models.errors import InputError

NAME = ".lock"


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep a folder, which is made, to this process; what a killed one had begun to write there is removed.

    The lock is the system's, which frees it when the process ends, however it ends, and does not pass it on to the
    processes that read images. On a file system that knows no locks there is none.

    Raises:
        InputError: another process has it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {error.strerror}.") from None
    try:
        _lock(descriptor, folder)
        for left in folder.glob("*.part"):
            with suppress(OSError):
                left.unlink()
        yield
    finally:
        os.close(descriptor)


def require_idle(folder: Path) -> None:
    """Whether no process has the folder now; makes nothing.

    Raises:
        InputError: one has.
    """
    if (folder / NAME).is_file():
        with sole_use(folder):
            pass


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return
        owner = os.read(descriptor, 200).decode(errors="replace").strip()
        raise InputError(
            f"{folder}: another run is at work there{f' ({owner})' if owner else ''}. Wait for it, stop it, or choose "
            "another --output-dir."
        ) from None
    with suppress(OSError):  # a full disk; the lock holds
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
