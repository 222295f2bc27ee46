"""Failures of the machine that its user can do something about, told apart from faults of the program."""

from __future__ import annotations

import errno
import sys

from srfgan.models.errors import InputError

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "DefaultCPUAllocator",
    "ALLOC_FAILED",
    "is killed by signal: Killed",
)
_STAGES = ("pretrain", "extract", "finetune")
_PLACES = frozenset(
    (
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG),
        *(errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ESTALE, errno.EMFILE, errno.ENFILE),
    )
)
"""What goes wrong with files and disks, where it is not known which file."""


def as_input_error(error: BaseException) -> InputError | None:
    """What to tell the user of memory, disks, files and batches that ended a command; None of anything else."""
    told = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError)
        and (
            getattr(error, "errno", None) == errno.ENOMEM
            or any(part in str(error) for part in _OUT_OF_MEMORY)
        )
    ):
        return InputError(f"Out of memory ({told.rstrip('.')}). {_advice()}")
    if isinstance(error, RuntimeError) and "shared memory" in str(error):
        return InputError(
            f"{told.rstrip('.')}. The processes that read images pass them on in /dev/shm, which is full: make it "
            "larger (docker run --shm-size), or read with fewer, --set data.workers=1, or none, 0."
        )
    if isinstance(error, ValueError) and told.startswith("Expected more than 1 value per channel"):
        return InputError(
            f"A batch norm that is trained has one value of each channel and no variance ({told.rstrip('.')}): more "
            "images in a batch (--batch-size; on each device, and in each part of solver.accumulate), larger images, "
            "or norms that are not trained (model.backbone.norm=frozen_bn, model.neck.norm=none)."
        )
    if isinstance(error, RuntimeError) and told.startswith("Symlink loop from "):
        # Path.resolve's, which is no OSError.
        return InputError(f"{told.rstrip('.')}: name the file or folder itself.")
    if not isinstance(error, OSError):
        return None
    if error.filename is not None:
        return InputError(f"{error.filename}: {error.strerror}.")
    if error.errno in _PLACES:
        return InputError(f"A file, or the output, cannot be read or written: {error.strerror}.")
    return None


def _advice() -> str:
    stage = next((word for word in sys.argv[1:] if word in _STAGES), None)
    if stage is None:
        return (
            "Smaller images need less (--set data.test_short_side=..., data.test_max_side=...), and so do "
            "--batch-size 1, fewer data.workers, and another device (--devices cpu)."
        )
    window = f"--set {stage}.adversarial.window=32, " if stage != "finetune" else ""
    return (
        f"--set {stage}.solver.accumulate=2 (4, 8, ...) makes the same step in smaller parts, also of a run that "
        f"goes on with --resume. Otherwise {window}--precision bf16, --set {stage}.solver.recompute=true where there "
        "is a generator, a smaller --batch-size, smaller images (data.short_sides, "
        "data.max_side), or fewer data.workers. What each needs of a GPU: srfgan presets show PRESET --memory."
    )
