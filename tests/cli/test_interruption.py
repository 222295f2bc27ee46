"""Runs that are interrupted or killed continue exactly; real processes, real signals."""

import json
import signal
import subprocess
import sys

import pytest
import torch

PRESET = "mask_rcnn_r18_fpn_nn"


SIGNALLING = """
import os, sys
from srfgan_cli.main import run
from srfgan_cli.training.metrics import MetricsLog

number, at = int(sys.argv.pop(1)), int(sys.argv.pop(1))
write = MetricsLog.write

def write_then_signal(self, iteration, values):
    write(self, iteration, values)
    if iteration == at:
        os.kill(os.getpid(), number)

MetricsLog.write = write_then_signal
run()
"""
"""The command, getting a signal right after it has logged an iteration; 0 sends none."""


@pytest.fixture
def train(tiny, tmp_path):
    options = ["--iterations", "12", "--batch-size", "2", "--devices", "cpu"]
    chosen = tiny(
        "finetune.solver.checkpoint_every=2",
        "finetune.solver.log_every=1",
        "finetune.solver.lr=0.0001",
        "finetune.solver.ema_decay=0.9",
    )

    def call(folder, *more, signal_=(0, 0)):
        python = [sys.executable, "-P", "-c", SIGNALLING, *map(str, map(int, signal_))]
        command = [
            *python,
            "finetune",
            "--preset",
            PRESET,
            *options,
            *chosen,
            "--output-dir",
            str(folder),
            *more,
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return call


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["iteration"]: line["losses"] for line in lines if "losses" in line}


def test_interrupted_killed_and_resumed_equals_never_stopped(train, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole).returncode == 0

    interrupted = train(parts, signal_=(signal.SIGINT, 3))
    assert interrupted.returncode == 130 and "--resume continues" in interrupted.stderr
    begun_again = train(parts)
    assert begun_again.returncode == 2 and "holds an unfinished run" in begun_again.stderr

    killed = train(parts, "--resume", signal_=(signal.SIGKILL, 9))
    assert killed.returncode == -signal.SIGKILL and len(losses(parts)) == 9
    changed = train(parts, "--resume", "--seed", "5")
    assert changed.returncode == 2 and "seed: 0 -> 5" in changed.stderr

    terminated = train(parts, "--resume", signal_=(signal.SIGTERM, 11))
    assert terminated.returncode == 130
    done = train(parts, "--resume")
    assert done.returncode == 0, done.stderr
    assert losses(parts) == losses(whole) and len(losses(whole)) == 12
    averages = [
        torch.load(run / "model.pt", weights_only=True)["modules"]["detector"] for run in (whole, parts)
    ]
    assert all(torch.equal(value, averages[1][name]) for name, value in averages[0].items())
