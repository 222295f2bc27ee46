"""`srfgan reproduce` from end to end: real runs, interrupted, broken, mended and finished."""

import json
import os
import signal
import threading
import time

import pytest
import yaml
from forked import HANGS
from PIL import Image

from srfgan.models.errors import InputError
from srfgan_cli.reproduction.graph import Settings, build_graph
from srfgan_cli.reproduction.jobs import Machine
from srfgan_cli.reproduction.rows import table_rows
from srfgan_cli.reproduction.run_jobs import Stopped, job_folders, run_jobs
from srfgan_cli.reproduction.slots import deal_out

OVERLAY = {
    "base": "demo",
    "model": {"neck": {"channels": 16}, "box_head": {"fc_dim": 32}, "rpn": {"post_nms_topk_train": 40}},
    "data": {
        "shapes_train": 12,
        "shapes_val": 4,
        "shapes_size": 64,
        "short_sides": [64],
        "test_short_side": 64,
    },
    **{
        stage: {
            "solver": {
                "iterations": 4,
                "batch_size": 2,
                "lr_batch_size": 2,
                "milestones": [],
                "warmup_iterations": 0,
                "lr": 1e-4,
            }
        }
        for stage in ("pretrain", "extract", "finetune")
    },
}
ROWS = "upsamplers_nn,upsamplers_srf"


@pytest.fixture
def reproduce(srfgan, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(OVERLAY))

    def call(*more, table="upsamplers", overlay="tiny.yaml"):
        options = ["--overlay", overlay, "--dataset", "shapes", "--rows", ROWS, "--devices", "cpu", *more]
        return srfgan("reproduce", table, *options)

    return call


def test_an_interval_of_evaluations_that_is_not_used_is_told(reproduce):
    """As `patience` wants it: five evaluations are too few for a patience of five."""
    every = ("--set", "finetune.solver.evaluate_every=1", "--set", "finetune.solver.patience=2", "--dry-run")
    told = "evaluate_every 1 is not used: --evaluations has 5 in each last stage"
    assert told in reproduce(*every).err
    assert "is not used" not in reproduce(*every, "--evaluations", "1").err
    assert "is not used" not in reproduce("--dry-run").err


@pytest.mark.slow  # two minutes; tests/fit runs a graph of jobs, too
def test_a_table_survives_a_signal_and_a_failing_run(reproduce, tmp_path):
    planned = json.loads(reproduce("--dry-run", "--json").out)
    assert [(run["kind"], run["state"]) for run in planned] == [
        ("finetune", "new"),
        ("pretrain", "new"),
        ("extract", "new"),
        ("finetune", "new"),
    ]
    assert planned[0]["rows"] == ["upsamplers_nn", "upsamplers_srf"]
    assert all(run["hours"] > 0 and run["images"] == 8 for run in planned)
    jobs = [tmp_path / "runs" / "reproduce" / "jobs" / run["run"] for run in planned]

    _signal_when([jobs[0] / "metrics.jsonl"], signal.SIGTERM)
    interrupted = reproduce()
    assert interrupted.code == 130 and "The same command continues." in interrupted.err
    assert not (jobs[1] / "preset.yaml").exists()

    # A run that cannot write its folder fails; what rests on it is left, and said to be.
    jobs[2].parent.mkdir(parents=True, exist_ok=True)
    jobs[2].mkdir()
    (jobs[2] / "tensorboard").touch()
    failed = reproduce("--json")
    assert failed.code == 1
    states = {run["run"]: run["state"] for run in json.loads(failed.out)["runs"]}
    assert list(states.values()) == ["done", "done", "failed", "blocked"]
    assert "Failed:" in failed.err and "upsamplers_srf" in failed.err and "tries them again" in failed.err

    (jobs[2] / "tensorboard").unlink()
    before = (jobs[0] / "model.pt").stat().st_mtime_ns, (jobs[1] / "model.pt").stat().st_mtime_ns
    done = reproduce("--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert [run["state"] for run in report["runs"]] == ["done"] * 4
    assert all(row["measured"]["box"]["AP"]["values"] for row in report["rows"])
    assert all(row["cost"]["ms"] > 0 for row in report["rows"])
    assert report["rows"][1]["cost"]["parameters"] > report["rows"][0]["cost"]["parameters"]
    after = (jobs[0] / "model.pt").stat().st_mtime_ns, (jobs[1] / "model.pt").stat().st_mtime_ns
    assert before == after, "what is done is not run again"
    folder = tmp_path / "runs" / "reproduce" / "upsamplers"
    assert json.loads((folder / "report.json").read_text())["rows"] == report["rows"]
    assert {f"panel-{jobs[3].name}.png", "differences.png"} <= {path.name for path in folder.iterdir()}
    with Image.open(folder / f"panel-{jobs[3].name}.png") as panel:
        assert panel.mode in ("RGB", "RGBA"), "a palette has no room for a photograph and two colour scales"

    fewer = reproduce("--rows", "upsamplers_nn", "--set", "evaluation.max_detections=10", "--json")
    assert fewer.code == 0, fewer.err
    runs = json.loads(fewer.out)["runs"]
    assert [(run["kind"], run["state"]) for run in runs] == [("finetune", "done"), ("eval", "done")]
    again = json.loads((jobs[0].parent / runs[1]["run"] / "evaluation.json").read_text())
    assert again["max_detections"] == 10
    assert before[0] == (jobs[0] / "model.pt").stat().st_mtime_ns, (
        "a training that is done is scored once more"
    )


@pytest.mark.slow
def test_runs_at_a_time_are_stopped_together_and_go_on(reproduce, tmp_path):
    options = ["--rows", "upsamplers_nn,upsamplers_bilinear,upsamplers_bicubic", "--jobs", "2"]
    options += ["--set", "evaluation.max_detections=10"]
    planned = json.loads(reproduce(*options, "--dry-run", "--json").out)
    jobs = [tmp_path / "runs" / "reproduce" / "jobs" / run["run"] for run in planned]

    _signal_when([job / "metrics.jsonl" for job in jobs[:2]], signal.SIGTERM)
    interrupted = reproduce(*options)
    assert interrupted.code == 130, interrupted.err
    assert all((job / "checkpoint.pt").exists() for job in jobs[:2]), "both have saved their state"
    assert not jobs[2].exists(), "no other was started"

    done = reproduce(*options, "--json")
    assert done.code == 0, done.err
    assert [run["state"] for run in json.loads(done.out)["runs"]] == ["done"] * 3
    assert all(json.loads((job / "evaluation.json").read_text())["max_detections"] == 10 for job in jobs)


@pytest.mark.slow
def test_a_table_of_detectors_of_every_kind(reproduce, tmp_path):
    rows = [
        "mask_rcnn_r50_augfpn_nn",
        "libra_rcnn_r50_fpn_nn",
        "panet_r50_pafpn_nn",
        "atss_r101_fpn_nn",
        "tridentnet_r101_c4",
    ]
    small = OVERLAY | {"base": "small", "model": {"backbone": {"name": "r10"}, "box_head": {"fc_dim": 32}}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    of_table = {"table": "table2_others", "overlay": "small.yaml"}
    options = ["--rows", ",".join(rows), "--set", "model.inference.score_threshold=0", "--json"]
    planned = json.loads(reproduce(*options, "--dry-run", **of_table).out)
    assert [(run["kind"], run["rows"]) for run in planned] == [("finetune", [row]) for row in rows]
    done = reproduce(*options, **of_table)
    assert done.code == 0, done.err
    for row in json.loads(done.out)["rows"]:
        assert row["measured"]["box"]["AP"]["values"] and row["cost"]["ms"] > 0
    assert (tmp_path / "runs" / "reproduce" / "table2_others" / "report.md").exists()


@pytest.mark.parametrize(
    "devices, gpus, jobs, dealt",
    [
        ("auto", 4, 2, ["0,1,", "2,3,"]),
        ("4,6", 8, 2, ["4,", "6,"]),
        ("1,", 2, 2, ["1,", "1,"]),
        ("auto", 2, 4, ["0,", "1,", "0,", "1,"]),
        ("auto", 0, 2, ["cpu:1", "cpu:1"]),
        ("cpu:4", 0, 2, ["cpu:2", "cpu:2"]),
    ],
)
def test_devices_are_dealt_out_evenly(devices, gpus, jobs, dealt, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    shares = deal_out(Machine(devices=devices), jobs)
    assert [share.devices for share in shares] == dealt
    assert {share.threads for share in shares} == ({None} if gpus else {4 if devices == "auto" else 2})


@pytest.mark.parametrize("machine", [Machine(devices="cpu:3"), Machine(prefix=("srun",))])
def test_devices_that_cannot_be_dealt_out_are_said_to_be_so(machine):
    with pytest.raises(InputError, match="--jobs"):
        deal_out(machine, 2)


def test_two_at_once_in_one_folder_are_refused(reproduce, tmp_path):
    import fcntl

    folder = tmp_path / "runs" / "reproduce"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = reproduce()
    assert refused.code == 2 and "is still running there" in refused.err


SRUN = """#!/bin/bash
trap 'echo "srun: step:[0]: running"' INT
trap 'echo saved; exit 130' TERM
touch started
for _ in {1..100}; do sleep 0.1; done
"""
"""Stands in for srun and its task; gives up after ten seconds."""


def test_an_interrupt_reaches_the_tasks_that_srun_has_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    graph = build_graph(table_rows("table5", ["table5_nn"]), Settings())
    folders = job_folders(graph, tmp_path)
    _signal_when([tmp_path / "started"], signal.SIGINT)
    with pytest.raises(Stopped):
        run_jobs(graph, folders, tmp_path, [Machine(prefix=(str(tmp_path / "srun"),))])
    (folder,) = folders.values()
    assert folder.log.read_text() == "saved\n"


def _signal_when(paths, number):
    """Send this process a signal as soon as all these files are there; none where they never come."""
    until = time.monotonic() + HANGS

    def watch():
        while not all(path.exists() for path in paths):
            if time.monotonic() > until:
                return
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()
