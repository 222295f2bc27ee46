"""Runs that are interrupted or killed at any moment continue exactly; real processes, real signals."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from forked import HANGS, start
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srfgan_cli.data.shapes_scene import draw_scene
from srfgan_cli.machine.interrupt import stop_on_signals

pytestmark = pytest.mark.command

DRIVER = """
import os, sys
from pathlib import Path
import srfgan_cli.evaluation.evaluate as evaluation
import srfgan_cli.training.train_stage
from srfgan_cli.main import run
from srfgan_cli.training.metrics import MetricsLog

(arguments, point), seen = given, {}
write_line, score, sync, replace = MetricsLog.write, evaluation.score, os.fsync, Path.replace

def passing(event, what, before=lambda: None):
    seen[event, what] = seen.get((event, what), 0) + 1
    if [event, what, seen[event, what]] == point[:3]:
        before()
        os.kill(os.getpid(), point[3])

def watched_line(self, iteration, values):
    kind = "evaluation" if "evaluation" in values else "losses"
    half = '{"iteration": %d, "' % iteration
    passing("half a line", f"{kind} {iteration}", lambda: self._file.write(half) and self._file.flush())
    write_line(self, iteration, values)
    passing("logged", f"{kind} {iteration}")

def watched_score(*args, **options):
    passing("scoring", "")
    return score(*args, **options)

def watched_sync(descriptor):
    place = os.readlink(f"/proc/self/fd/{descriptor}")
    half, name = os.fstat(descriptor).st_size // 2, Path(place).name.removesuffix(f".{os.getpid()}.part")
    passing("half a file", name, lambda: os.ftruncate(descriptor, half))
    sync(descriptor)

def watched_replace(self, target):
    moved = replace(self, target)
    passing("renamed", Path(target).name)
    return moved

MetricsLog.write, evaluation.score = watched_line, watched_score
os.fsync, Path.replace = watched_sync, watched_replace
sys.argv = ["srfgan", *arguments]
run()
"""
"""Runs a command that gets a signal at a point: [event, what, its how-manieth time, signal]."""

PLAIN, FULL = "mask_rcnn_r18_fpn_nn", "mask_rcnn_r18_fpn"
NORMALISED = "retinanet_r18_fpn_nn"
KILL = signal.SIGKILL
SCHEDULE = ("solver.checkpoint_every=3", "solver.log_every=4", "solver.lr=0.0001")
NEVER = ["", "", 0, 0]
TIMES = ("seconds_per_iteration", "images_per_second")


@pytest.fixture
def drive(tmp_path):
    """Run commands one after the other, each up to its point; their exit codes, and what they said together."""

    def call(attempts):
        ends = [start(DRIVER, attempt, tmp_path).ended() for attempt in attempts]
        return [code for code, _ in ends], "".join(said for _, said in ends)

    return call


@pytest.fixture
def command(tiny):
    """A stage's command, 10 iterations long."""

    def call(stage, preset, folder, *settings, options=()):
        chosen = [f"{stage}.{setting}" for setting in SCHEDULE]
        fixed = ["--iterations", "10", "--batch-size", "2", "--devices", "cpu"]
        return [
            stage,
            "--preset",
            preset,
            *fixed,
            *options,
            *tiny(*chosen, *settings, detector=preset.split("_r18")[0]),
            "--output-dir",
            folder,
        ]

    return call


def logged(folder):
    """What a run's log says, but for times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def boarded(folder):
    """What TensorBoard shows of a run, but for times: (step, value) by name."""
    board = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    board.Reload()
    names = [name for name in board.Tags()["scalars"] if name not in TIMES]
    return {name: [(event.step, event.value) for event in board.Scalars(name)] for name in names}


def assert_same_run(whole, parts):
    """Everything that a run leaves is the same, but for times and places."""
    assert logged(parts) == logged(whole)
    assert boarded(parts) == boarded(whole)
    models = [torch.load(run / "model.pt", weights_only=True) for run in (whole, parts)]
    for name, module in models[0]["modules"].items():
        assert all(torch.equal(value, models[1]["modules"][name][key]) for key, value in module.items())
    assert not list(parts.glob("*.part"))
    if (whole / "evaluation.json").exists():
        assert (parts / "results.json").read_bytes() == (whole / "results.json").read_bytes()
        scores = [json.loads((run / "evaluation.json").read_text())["box"] for run in (whole, parts)]
        assert scores[0] == scores[1]


def attempts(first, again, points):
    """The same run again and again: `first`, then resumed, each up to its point, and at last to the end."""
    return list(zip([first, *[again] * len(points)], [*points, NEVER], strict=True))


def test_a_detector_killed_at_any_moment_equals_one_never_killed(drive, command, tmp_path):
    settings = ("finetune.solver.evaluate_every=4", "finetune.solver.ema_decay=0.9", "data.workers=1")
    points = [
        ["half a file", "checkpoint.pt", 2, KILL],  # that of iteration 4, which the evaluation wants
        ["scoring", "", 1, KILL],
        ["half a line", "evaluation 4", 1, KILL],
        ["half a file", "metrics.jsonl", 1, KILL],
        ["logged", "losses 8", 1, signal.SIGINT],
        ["half a line", "losses 10", 1, KILL],
        ["renamed", "checkpoint.pt", 1, KILL],  # that of iteration 10
        ["half a file", "results.json", 1, KILL],
        ["logged", "evaluation 10", 1, KILL],
        ["half a file", "evaluation.json", 1, KILL],
        ["half a file", "model.pt", 1, KILL],
    ]
    whole, parts = (command("finetune", PLAIN, name, *settings) for name in ("whole", "parts"))
    wrong = (["--resume", "--seed", "5"], [], ["--auto-resume", "--overwrite"], ["--resume", "--overwrite"])
    refused = [([*parts, *options], NEVER) for options in wrong]
    begun = attempts(parts, [*parts, "--resume"], points)
    ends, said = drive([([*parts, "--resume"], NEVER), *begun[:5], *refused, *begun[5:], (whole, NEVER)])
    assert ends == [2, *[-KILL] * 4, 130, 2, 2, 2, 2, *[-KILL] * 6, 0, 0], said
    assert "parts holds no checkpoint" in said and "Interrupted; saved to parts/checkpoint.pt" in said
    assert "--resume and --overwrite exclude each other" in said
    assert "seed: 0 -> 5" in said and "parts holds an unfinished run" in said
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert [line["iteration"] for line in logged(tmp_path / "parts")] == [4, 4, 8, 8, 10, 10]


def test_the_generators_stages_killed_at_any_moment_equal_ones_never_killed(drive, command, tmp_path):
    guide, generator = ("--guide", "guide/model.pt"), ("--generator", "stage 1/model.pt")
    runs = [(command("finetune", PLAIN, "guide"), NEVER)]
    for stage, name, sources in (
        ("pretrain", "stage 1", guide),
        ("extract", "stage 2", (*guide, *generator)),
    ):
        points = [
            ["logged", "losses 4", 1, KILL],
            ["half a file", "checkpoint.pt", 1, KILL],
            ["logged", "losses 8", 1, signal.SIGTERM if stage == "pretrain" else signal.SIGHUP],
            ["half a file", "model.pt", 1, KILL],
        ]
        window = f"{stage}.adversarial.window=8"
        made = [
            command(stage, FULL, folder, window, "data.workers=1", options=sources)
            for folder in (name, f"{name} in parts")
        ]
        job = [*made[1], "--auto-resume"]
        other = ([*job, "--guide", "guide/checkpoint.pt"], NEVER)
        begun = attempts(job, job, points)
        runs += [(made[0], NEVER), *begun[:2], other, *begun[2:], (job, NEVER)]
    ends, said = drive(runs)
    assert ends == [0, *[0, -KILL, -KILL, 2, 130, -KILL, 0, 0] * 2], said
    assert "guide: guide/model.pt (sha256" in said and "-> guide/checkpoint.pt (sha256" in said
    assert "The run in stage 2 in parts is finished" in said
    for name in ("stage 1", "stage 2"):
        assert_same_run(tmp_path / name, tmp_path / f"{name} in parts")


EARLY = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # scripts' jobs in the background are started without these
signal.signal(signal.SIGHUP, signal.SIG_DFL)
import srfgan_cli.runs.plan
from srfgan_cli.main import run

def wait(options):
    print("ready", flush=True)
    time.sleep(600)

srfgan_cli.runs.plan.make_plan = wait
sys.argv = ["srfgan", "pretrain"]
run()
"""
"""A command that is still preparing its work."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_first_step_is_heard(number):
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", EARLY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    _, said = child.communicate(timeout=HANGS)
    assert (child.returncode, said.split()) == (130, ["Interrupted."])


def test_only_an_impatient_ctrl_c_costs_the_iteration(monkeypatch, capfd):
    now = 100.0
    monkeypatch.setattr("srfgan_cli.machine.interrupt.time.monotonic", lambda: now)
    with stop_on_signals() as stop:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert stop.requested
        now += 10
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "more"),
    [
        ("atss_r18_fpn_nn", ["model.neck.channels=64", "model.inference.score_threshold=0"]),
        ("libra_rcnn_r18_fpn_nn", []),
        ("panet_r18_pafpn_nn", []),
        ("tridentnet_r18_c4", []),
        ("mask_rcnn_r18_augfpn_nn", []),
    ],
)
def test_detectors_with_samples_or_necks_of_their_own_killed_equal_ones_never_killed(
    drive, command, tmp_path, preset, more
):
    points = [["logged", "losses 4", 1, KILL], ["half a file", "checkpoint.pt", 1, KILL]]
    whole, parts = (command("finetune", preset, name, *more) for name in ("whole", "parts"))
    ends, said = drive([(whole, NEVER), *attempts(parts, [*parts, "--auto-resume"], points)])
    assert ends == [0, -KILL, -KILL, 0], said
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert json.loads((tmp_path / "whole" / "results.json").read_text()), "nothing to compare"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_self_training_with_a_moving_normaliser_killed_equals_one_never_killed(
    drive, command, tmp_path, workers
):
    """RetinaNet divides its losses by an average over the iterations so far."""
    points = [
        ["logged", "losses 4", 1, KILL],
        ["half a file", "checkpoint.pt", 1, KILL],
        ["logged", "losses 8", 1, KILL],
    ]
    settings = ("model.retinanet.num_convs=1", f"data.workers={workers}")
    labels = ("--unlabeled", "images", "--teacher", "teacher/model.pt")
    (tmp_path / "images").mkdir()
    for number in range(4):
        Image.fromarray(draw_scene(np.random.default_rng(number), 64)[0]).save(
            tmp_path / f"images/{number}.png"
        )
    low = "finetune.self_training.threshold=0.01"
    teacher = command("finetune", NORMALISED, "teacher", *settings)
    whole, parts = (
        command("finetune", NORMALISED, name, *settings, low, options=labels) for name in ("whole", "parts")
    )
    ends, said = drive([(teacher, NEVER), (whole, NEVER), *attempts(parts, [*parts, "--resume"], points)])
    assert ends == [0, 0, -KILL, -KILL, -KILL, 0], said
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
