"""Full disks, things in each other's place, and too little memory end a command with what to do."""

import errno
import os
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from srfgan.models.errors import InputError
from srfgan_cli.data.shapes import ensure_shapes
from srfgan_cli.screen.failures import as_input_error
from srfgan_cli.training.metrics import MetricsLog


def raised(call):
    with pytest.raises((RuntimeError, ValueError, MemoryError, OSError)) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (raised(lambda: torch.empty(2**50)), "Out of memory .*can't allocate"),
        (raised(lambda: bytearray(2**60)), "Out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "Out of memory .*2 GiB"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "Out of memory"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "Out of memory"),
        (RuntimeError("unable to write to file </torch_1>: out of shared memory"), "/dev/shm"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Out of memory"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot be read or written: No space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "x: Read-only file system"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (raised(Path("a" * 300).stat), "aaa: File name too long"),
        (
            RuntimeError("Symlink loop from '/a/b'"),
            "^Symlink loop from '/a/b': name the file or folder itself",
        ),
        (raised(lambda: torch.nn.BatchNorm2d(3)(torch.ones(1, 3, 1, 1))), "batch norm .*--batch-size"),
        (RuntimeError("the sizes of tensors must match"), None),
        (ValueError("no number"), None),
        (OSError("no number"), None),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), None),
    ],
)
def test_what_the_user_can_put_right_is_told_from_faults_of_the_program(error, message):
    told = as_input_error(error)
    if message is None:
        assert told is None
    else:
        with pytest.raises(InputError, match=message):
            raise told


FIXED = ["--preset", "faster_rcnn_r18_fpn_nn", "--devices", "cpu", "--iterations", "1", "--batch-size", "2"]


@pytest.mark.parametrize(
    ("where", "command", "advice"),
    [
        (
            "srfgan_cli.training.engine.Trainer.step",
            ["finetune", *FIXED],
            "--set finetune.solver.accumulate=2",
        ),
        ("srfgan_cli.presets.load_preset", ["eval", "--preset", "x"], "--batch-size 1"),
    ],
)
def test_too_little_memory_ends_with_advice(where, command, advice, srfgan, tiny, monkeypatch):
    def too_much(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(where, too_much)
    done = srfgan(*command, *tiny(detector="faster_rcnn"))
    assert done.code == 2 and advice in done.err and "Traceback" not in done.err


def test_a_full_disk_ends_the_log_and_no_thread_hangs(tmp_path):
    before, limits = threading.active_count(), resource.getrlimit(resource.RLIMIT_FSIZE)
    log = MetricsLog(tmp_path, 0)
    assert threading.active_count() == before
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(
            InputError, match=r"Cannot write the log \(metrics.jsonl, tensorboard/\) in .*too large"
        ):
            for iteration in range(1000):
                log.write(iteration, {"losses": {"loss": 1.0}})
                log.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "model.pt", "config.yaml", "tensorboard", "checkpoint.pt", ""]
)
def test_a_folder_in_a_files_place_and_the_reverse(name, srfgan, tiny, tmp_path):
    """Each is in the way of a run, which says so and leaves it."""
    folder = tmp_path / "run"
    place = folder / name
    if name in ("tensorboard", ""):
        place.parent.mkdir(exist_ok=True)
        place.touch()
    else:
        (place / "kept").mkdir(parents=True)
    done = srfgan("finetune", *FIXED, "--output-dir", folder, *tiny(detector="faster_rcnn"))
    assert done.code == 2 and str(place) in done.err and "Traceback" not in done.err
    assert place.is_file() if name in ("tensorboard", "") else (place / "kept").is_dir()


def test_a_closed_terminal_takes_no_checkpoint(tmp_path):
    """After SIGHUP every write to the terminal fails: output goes nowhere, and the loop goes on to save."""
    terminal, end = os.openpty()
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
        os.dup2(end, 2)
        os.close(terminal)
        from srfgan_cli.machine.interrupt import stop_on_signals

        with stop_on_signals() as stop:
            os.write(2, b"ready")
            while not stop.requested:
                time.sleep(0.01)  # not signal.pause: the signal may come just before it
            os.write(2, b"the terminal is gone")
            (tmp_path / "saved").touch()
        os._exit(0)
    os.close(end)
    assert os.read(terminal, 5) == b"ready"
    os.close(terminal)
    os.kill(child, signal.SIGHUP)
    assert os.waitpid(child, 0)[1] == 0 and (tmp_path / "saved").exists()


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code_and_no_file(closed, tmp_path):
    """`data convert` opens files, of which none may get a stream's number, and prints what it could not express."""
    coco = ensure_shapes(2, 2, 64)
    command = f"{shlex.quote(sys.executable)} -m srfgan_cli data"
    for arguments, code in ((f"convert {coco} yolo --to yolo", 0), ("check nothing", 2)):
        done = subprocess.run(["sh", "-c", f"{command} {arguments} {closed}"], cwd=tmp_path, timeout=120)
        assert done.returncode == code
    whole = subprocess.run(
        ["sh", "-c", f"{command} convert {coco} open --to yolo"], cwd=tmp_path, timeout=120
    )
    assert whole.returncode == 0
    for file in (tmp_path / "open").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "yolo" / file.relative_to(tmp_path / "open")).read_bytes()
