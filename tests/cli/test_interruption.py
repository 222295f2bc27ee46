"""Runs that are interrupted or killed continue exactly; real processes, real signals."""

import json
import signal
import subprocess
import sys
import time

import pytest

PRESET = "mask_rcnn_r18_fpn_nn"


@pytest.fixture
def command(tiny):
    options = ["--iterations", "14", "--batch-size", "2", "--devices", "cpu"]
    chosen = tiny(
        "finetune.solver.checkpoint_every=2", "finetune.solver.log_every=1", "finetune.solver.lr=0.0001"
    )
    return [sys.executable, "-P", "-m", "srfgan_cli", "finetune", "--preset", PRESET, *options, *chosen]


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["iteration"]: line["losses"] for line in lines}


def stop_at(command, folder, iteration, number):
    """Send a signal once the run has logged an iteration; returns its exit code and what it said."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.is_file() or f'"iteration": {iteration},' not in metrics.read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    return process.returncode, said


def test_interrupted_killed_and_resumed_equals_never_stopped(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    subprocess.run([*command, "--output-dir", str(whole)], check=True, capture_output=True)
    command = [*command, "--output-dir", str(parts)]

    code, said = stop_at(command, parts, 3, signal.SIGINT)
    assert code == 130 and "--resume continues" in said
    begun_again = subprocess.run(command, capture_output=True, text=True)
    assert begun_again.returncode == 2 and "holds an unfinished run" in begun_again.stderr

    code, _ = stop_at([*command, "--resume"], parts, 9, signal.SIGKILL)
    assert code == -signal.SIGKILL
    changed = subprocess.run([*command, "--resume", "--seed", "5"], capture_output=True, text=True)
    assert changed.returncode == 2 and "seed: 0 -> 5" in changed.stderr

    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert losses(parts) == losses(whole) and len(losses(whole)) == 14
