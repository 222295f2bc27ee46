"""What Tab offers, asked for as bash does."""

import os
import subprocess
import sys

import pytest


@pytest.mark.command
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("srfgan finetune --preset mask_rcnn_r18", {"mask_rcnn_r18_fpn", "mask_rcnn_r18_fpn_nn"}),
        ("srfgan eval --preset ow", {"own.yaml"}),
        ("srfgan reproduce tab", {"table1", "table7"}),
        ("srfgan export --weights r", {"runs/", "runs/finetune/mine"}),
        ("srfgan fi", {"finetune", "fit"}),
    ],
)
def test_offers(line, offered, tmp_path):
    run = tmp_path / "runs/finetune/mine"
    run.mkdir(parents=True)
    (run / "model.pt").touch()
    (tmp_path / "own.yaml").touch()
    words = line.split()
    asking = {"_SRFGAN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.argv[0] = 'srfgan'; from srfgan_cli.main import run; run()"
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-c", code],
        env=os.environ | asking,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert offered <= set(done.stdout.split()), done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    unneeded = {"torch", "numpy", "srfgan_cli.screen.console", "srfgan.models.config"}
    assert "typer" in imported and not imported & unneeded
