"""The job scripts of docs/cluster.md, with stand-ins for SLURM's commands and for the work itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.command

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
SCRIPTS = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
STAND_INS = {
    # One task, as srun starts it, interrupted in the end.
    "srun": """while [[ "$1" == --* ]]; do shift; done
SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1 SLURM_STEP_ID=0 "$@" || exit
exit 130""",
    "srfgan": f'exec {sys.executable} -P -m srfgan_cli "$@" --dry-run',
    "scontrol": 'echo "scontrol $*"',
}


@pytest.mark.parametrize(("script", "code", "says"), [(0, 130, "scontrol requeue 41"), (1, 0, "finetune")])
def test_a_documented_job_script_runs(script, code, says, tmp_path):
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for split in ("train2017", "val2017"):
        (tmp_path / split).mkdir()
        json = tmp_path / "annotations" / f"instances_{split}.json"
        json.parent.mkdir(exist_ok=True)
        json.write_text("{}")
    job = {"SLURM_JOB_ID": "41", "SLURM_JOB_NODELIST": "gpu[1-2]", "DATA": str(tmp_path)}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", SCRIPTS[script]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **job, "PATH": path},
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout
