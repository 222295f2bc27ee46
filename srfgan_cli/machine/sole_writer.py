"""One process at a time that fills a new folder."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from srfgan.models.errors import InputError


@contextmanager
def sole_writer(folder: Path, command: str, option: str = "") -> Iterator[None]:
    """Keep a folder, which is made, to this process until the block ends.

    Two that had found it empty would write over each other's files: what was seen in it before has to be looked at
    again inside. The lock is on the folder itself, leaves no file there, and is the system's, which frees it when the
    process ends.

    Args:
        folder: what is written to.
        command: of srfgan, that writes there.
        option: that names the folder, if one does.

    Raises:
        InputError: another process has it, or it cannot be made.
    """
    named = f"{option} {folder}".strip()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{named}: cannot be made a folder ({error.strerror}).") from None
    try:
        if not _locked(descriptor):
            raise InputError(f"{named}: another srfgan {command} writes there; name a new folder.")
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Lock an open folder; on a file system that knows no locks there is none, and nobody is refused."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True
