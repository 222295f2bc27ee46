"""Memory that a process on a CPU has freed is kept for what it asks for next."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Names of mallopt's options, as malloc.h of glibc numbers them."""


def keep_freed_memory() -> None:
    """For the rest of the process, glibc's malloc gives nothing back to the system; elsewhere this does nothing.

    By default it gives back what is larger than 32 MB as soon as it is freed. Feature maps of a usual image are, and
    so the system zeroes and maps the same pages again for every layer: nearly a tenth of a detector's time on a CPU
    (`benchmarks/heap.py`). What the process holds is its peak, a little more than without.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
    mallopt(_TOP_PAD, 64 * 2**20)
