"""Two processes and one folder: the second is refused, and a killed one leaves nothing in the way."""

import os
import signal
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from srfgan.models.errors import InputError
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.runs.lock import require_idle, sole_use


@contextmanager
def held(folder, ready):
    """A process that has a folder, in the middle of writing a file; gives its id."""
    child = os.fork()
    if child == 0:
        with sole_use(folder):
            (folder / "checkpoint.pt").write_text("last")
            write_atomically(folder / "checkpoint.pt", lambda _: (ready.touch(), time.sleep(600)))
        os._exit(0)
    while not ready.exists():
        time.sleep(0.01)
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.fixture
def holder(tmp_path):
    """Such a process, of the folder `run`."""
    with held(tmp_path / "run", tmp_path / "ready") as child:
        yield child


def test_the_second_of_two_is_refused_until_the_first_has_ended(holder, tmp_path):
    folder = tmp_path / "run"
    for refused in (lambda: sole_use(folder).__enter__(), lambda: require_idle(folder)):
        with pytest.raises(
            InputError, match=rf"run: another run is at work there \(process {holder} on .*--output-dir"
        ):
            refused()
    assert len(list(folder.glob("*.part"))) == 1, "what the first one writes is left alone"
    grandchild = os.fork()  # as one that reads images, which may live longer than its parent
    if grandchild == 0:
        time.sleep(600)
        os._exit(0)
    os.kill(holder, signal.SIGKILL)
    while Path(f"/proc/{holder}/fd/0").exists():
        time.sleep(0.01)
    with sole_use(folder):
        assert [path.name for path in sorted(folder.iterdir())] == [".lock", "checkpoint.pt"]
    os.kill(grandchild, signal.SIGKILL)
    os.waitpid(grandchild, 0)


def test_only_what_a_killed_run_had_begun_is_removed(tmp_path):
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitpid(ended, 0)
    begun = [f"checkpoint.pt.{ended}.part", f"segm/results.json.{ended}.part", f"model.pt.{os.getpid()}.part"]
    kept = [
        "backup.tar.part",
        f"own.pt.{ended}.part",
        "model.pt.old.part",
        f"results.json.{os.getppid()}.part",
    ]
    (tmp_path / "segm").mkdir()
    for name in (*begun, *kept):
        (tmp_path / name).touch()
    with sole_use(tmp_path):
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.part")}
    assert left == set(kept), "the user's own, and what an eval at work writes"


@pytest.mark.parametrize(
    "options", [[], ["--overwrite"], ["--auto-resume"], ["--max-restarts", "1", "--overwrite"]]
)
def test_a_second_training_is_refused_and_spoils_nothing(holder, options, srfgan, tiny, tmp_path):
    folder = tmp_path / "run"
    if not options:
        (folder / "checkpoint.pt").unlink()  # the first one has not saved yet
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    fixed = [
        "--preset",
        "faster_rcnn_r18_fpn_nn",
        "--devices",
        "cpu",
        "--iterations",
        "1",
        "--output-dir",
        folder,
    ]
    done = srfgan("finetune", *fixed, *options, *tiny(detector="faster_rcnn"))
    assert done.code == 2 and f"{folder}: another run is at work there" in done.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_launcher_that_ends_while_another_nodes_does_has_done_well(srfgan, tiny, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    options = ["--devices", "cpu", "--max-restarts", "1", "--overwrite", "--output-dir", folder]
    with ExitStack() as others:

        def launch(*_):
            others.enter_context(held(folder, tmp_path / "ready"))
            return 0

        monkeypatch.setattr("srfgan_cli.machine.launcher.launch", launch)
        preset = ["--preset", "faster_rcnn_r18_fpn_nn", *tiny(detector="faster_rcnn")]
        done = srfgan("finetune", *preset, *options)
    assert done.code == 0, done.err


def test_two_processes_write_one_file_one_after_the_other(holder, tmp_path):
    """Of a results file, which `eval` may write beside a training."""
    path = tmp_path / "run" / "checkpoint.pt"
    write_atomically(path, lambda file: file.write(b"mine"))
    assert path.read_bytes() == b"mine"


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("old")

    def write(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, write)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("model.pt", "old")]
