"""Several nodes, as torchrun agents on the loopback address; processes that die, and runs that go on without help."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import HANGS, free_port

pytestmark = pytest.mark.command

NODE = socket.gethostname()


@pytest.fixture
def start(tiny, tmp_path):
    """Start a run of 12 iterations by two processes: one launcher per node."""
    running = []

    def call(folder, *more, nodes=1):
        settings = ("solver.lr=0.0001", "solver.checkpoint_every=2", "solver.log_every=1")
        recipe = tiny(*(f"finetune.{setting}" for setting in settings))
        place = ["--devices", "cpu:2"]
        if nodes > 1:
            place = ["--devices", "cpu:1", "--nnodes", "2", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
        command = [sys.executable, "-P", "-m", "srfgan_cli", "finetune", "--preset", "mask_rcnn_r18_fpn_nn"]
        size = ["--iterations", "12", "--batch-size", "4", "--output-dir", folder]
        for _ in range(nodes):
            launcher = subprocess.Popen(
                [*command, *size, *recipe, *place, *more],
                cwd=tmp_path,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            running.append(launcher)
        return running[-nodes:]

    yield call
    for launcher in running:
        if launcher.poll() is None:
            launcher.terminate()
            launcher.wait(60)


def ended(launchers):
    """Their exit codes, and what they said; in order of rank, as far as the main process has spoken."""
    said = [launcher.communicate(timeout=HANGS)[1] for launcher in launchers]
    return [launcher.returncode for launcher in launchers], said


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["iteration"]: line["losses"] for line in lines if "losses" in line}


def kill(launchers, rank, folder):
    """Kill one of the run's processes once the run has done some iterations."""
    deadline = time.monotonic() + HANGS
    log = folder / "metrics.jsonl"
    while not (log.exists() and len(log.read_text().splitlines()) >= 3):
        assert time.monotonic() < deadline and all(launcher.poll() is None for launcher in launchers)
        time.sleep(0.02)
    children = [_children(launcher.pid) for launcher in launchers]
    workers = [pid for pids in children for pid in pids if f"RANK={rank}" in _environment(pid)]
    os.kill(workers[0], signal.SIGKILL)


@pytest.mark.slow
def test_two_nodes_train_as_one_and_a_killed_run_goes_on_by_itself(start, tmp_path):
    codes, said = ended(start("nodes", nodes=2))
    assert codes == [0, 0], said
    assert len(losses(tmp_path / "nodes")) == 12
    assert sum("Done. Weights: nodes/model.pt" in text for text in said) == 1

    launchers = start("node", "--max-restarts", "1")
    kill(launchers, 1, tmp_path / "node")
    codes, said = ended(launchers)
    assert codes == [0], said
    assert "exitcode: -9" in said[0] and "Continuing after iteration" in said[0]
    assert losses(tmp_path / "node") == losses(tmp_path / "nodes")


@pytest.mark.slow
def test_a_killed_process_ends_the_run_on_every_node_with_its_name(start, tmp_path):
    launchers = start("run", nodes=2)
    kill(launchers, 1, tmp_path / "run")
    codes, said = ended(launchers)
    assert codes == [1, 1]
    of_the_main, of_the_other = sorted(said, key=lambda text: "finetune 1/12" not in text)
    assert f"process 1 on node {NODE} was ended by SIGKILL" in of_the_other
    assert f"no answer from process 1 on node {NODE}." in of_the_main
    assert "Traceback" not in of_the_main + of_the_other


@pytest.mark.slow
def test_the_main_process_of_two_nodes_is_killed_and_the_run_goes_on(start, tmp_path):
    whole = start("whole")
    assert ended(whole)[0] == [0]
    for rank in (0, 1):
        folder = tmp_path / f"killed {rank}"
        launchers = start(folder.name, "--max-restarts", "1", nodes=2)
        kill(launchers, rank, folder)
        codes, said = ended(launchers)
        assert codes == [0, 0], said
        assert losses(folder) == losses(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_the_main_process_is_killed_and_the_run_ends(start, tmp_path, nodes):
    launchers = start("run", nodes=nodes)
    kill(launchers, 0, tmp_path / "run")
    codes, said = ended(launchers)
    assert codes == [1] * nodes
    assert any(f"process 0 on node {NODE} was ended by SIGKILL" in text for text in said)
    assert all(f"process 0 on node {NODE}" in text for text in said)


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _environment(pid):
    return Path(f"/proc/{pid}/environ").read_text().split("\0")
