"""The script for a GPU runs to its end where there is none, so that it is ready where there is one."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.command

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


def smoke(path: Path, *options: str) -> tuple[dict, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), "--smoke", "--out", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=path.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text()), done.stdout


@pytest.mark.slow
def test_blocks_write_what_they_found(tmp_path):
    found, said = smoke(tmp_path / "gpu.json", "--only", "waits,evaluation,resume")
    assert found["device"] == "cpu" and found["torch"] and set(found) >= {"waits", "evaluation", "resume"}
    assert [loss["difference"] for loss in found["resume"]["found"].values()] == [0.0, 0.0, 0.0]
    assert found["evaluation"]["found"]["fp32"]["objects"] > 0
    assert "evaluation" in said and "Traceback" not in said


@pytest.mark.slow
def test_every_block_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    wanted = set(runpy.run_path(str(SCRIPT))["BLOCKS"])
    found, said = smoke(tmp_path / "gpu.json")
    blocks = {name: value["found"] for name, value in found.items() if isinstance(value, dict)}
    assert set(blocks) == wanted and all(blocks.values()) and "failed" not in said, said
    assert all(case["pyramid"] == case["loss"] == 0 for case in blocks["detectors"].values())
    assert blocks["parity"] and not any("wrong" in case for case in blocks["parity"].values())
    assert all(command["code"] == 0 for command in blocks["commands"].values()), blocks["commands"]
    assert all(loss["difference"] < 0.01 for loss in blocks["ddp"].values())
