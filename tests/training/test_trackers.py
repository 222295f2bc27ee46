"""A run's numbers at W&B and MLflow, in their offline modes, and what happens without them."""

import json

import pytest

from srfgan_cli.runs import trackers
from srfgan_cli.runs.folder import Run
from srfgan_cli.training.metrics import MetricsLog

CONFIG = {"finetune.solver.lr": 0.02, "rows": [], **{f"key.{number}": number for number in range(150)}}
LINES = [
    (20, {"losses": {"loss_cls": 1.5}, "lr": 0.01}),
    (20, {"evaluation": {"box": {"AP": 12.5, "AR@1": 7.0, "APs": None}}}),
]
NUMBERS = {"losses/loss_cls": 1.5, "lr": 0.01, "evaluation/box/AP": 12.5}


def track(name, run, lines, start=0):
    log = MetricsLog(run.folder, start, trackers.Trackers([name], run, "finetune tiny", CONFIG))
    for line in lines:
        log.write(*line)
    log.close()
    return json.loads(run.tracked.read_text())[name]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run")


def test_wandb_has_the_numbers_and_a_resume_goes_on_in_the_same_run(run, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    first = track("wandb", run, [*LINES, (10, {"late": 3.5})])
    assert track("wandb", run, [(40, {"lr": 0.02})], start=20) == first
    parts = sorted(
        run.folder.glob(f"wandb/offline-run-*-{first}/run-{first}.wandb"),
        key=lambda path: path.stat().st_mtime,
    )
    written = [path.read_bytes() for path in parts]
    assert len(written) == 2 and all(name.encode() in written[0] for name in (*NUMBERS, "finetune tiny"))
    assert b"key.149" in written[0] and b"loss_cls" not in written[1]
    assert b"late" in written[0], "what a resumed run says of an iteration that is there already"


def test_mlflow_has_the_numbers_and_a_resume_goes_on_in_the_same_run(run, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (run.folder / "mlruns").as_uri())
    mlflow.set_tracking_uri(None)
    first = track("mlflow", run, LINES)
    assert track("mlflow", run, [(40, {"lr": 0.02})], start=20) == first
    client = mlflow.MlflowClient()
    data = client.get_run(first).data
    assert data.metrics == NUMBERS | {"evaluation/box/AR_at_1": 7.0, "lr": 0.02}
    assert [point.step for point in client.get_metric_history(first, "lr")] == [20, 40]
    assert data.params == {key: str(value) for key, value in CONFIG.items()}


def test_a_tracker_that_fails_on_the_way_is_left_out_and_the_log_goes_on(run, monkeypatch, capsys):
    class Failing:
        id = "7"

        def __init__(self, *_):
            self.left = 1

        def log(self, iteration, numbers):
            self.left -= 1
            if self.left < 0:
                raise ConnectionError("no answer\nfrom there")
            print("View run at: ...")  # as MLflow does

    monkeypatch.setitem(trackers._KINDS, "wandb", Failing)
    run.tracked.write_bytes(b'{"wandb": "\xff')  # a damaged file is none
    assert track("wandb", run, [*LINES, (40, {"lr": 0.02})]) == "7"
    out, said = capsys.readouterr()
    assert not out and said.count("View run") == 1, "stdout is for the document of --json"
    assert said.count("wandb takes no more of this run (no answer); metrics.jsonl has all of it.") == 1
    assert len(run.metrics.read_text().splitlines()) == 3


def test_one_that_is_not_installed_or_does_not_begin_is_said_before_anything_is_done(
    srfgan, run, monkeypatch
):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    refused = srfgan(
        "finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--dry-run", "--set", "trackers=[mlflow]"
    )
    assert refused.code == 2 and "mlflow is not installed: pip install 'srfgan[mlflow]'" in refused.err

    def no_key(*_):
        raise RuntimeError("No API key configured.")

    monkeypatch.setitem(trackers._KINDS, "wandb", no_key)
    with pytest.raises(
        trackers.InputError, match="trackers: wandb does not begin a run: No API key configured"
    ):
        trackers.Trackers(["wandb"], run, "x", CONFIG)
