"""The README's Python runs as it stands, and its table of what exists is whole."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from models.config import DETECTORS, BackboneName, NeckName
from models.upsamplers import UPSAMPLERS
from srfgan_cli.presets.tables import load_tables

README = Path(__file__).parents[1] / "README.md"
WHAT_EXISTS = {
    "detectors": list(DETECTORS),
    "necks": get_args(NeckName),
    "backbones": get_args(BackboneName),
    "upsamplers": tuple(UPSAMPLERS),
    "tables": tuple(load_tables()),
}
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_there_are_examples():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("what", WHAT_EXISTS)
def test_the_table_names_all_that_exists(what):
    (cells,) = re.findall(rf"^\| {what} \|(.*)\|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", cells)) == set(WHAT_EXISTS[what])


@pytest.mark.parametrize("code", BLOCKS)
def test_python_example_runs(code, tmp_path):
    """In a process and a folder of its own, as a reader would run it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(README.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:models", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
