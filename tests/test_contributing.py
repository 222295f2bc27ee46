"""CONTRIBUTING's examples, applied to a copy of `models` as the page says, make a detector that trains.

So do its facts: which room imports from which, and that the hooks are `make lint`.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.command
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^`(models/\S+\.py)`:\n\n```(python|diff)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
ROOMS = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)


def changed(text, diff):
    """`text` after each hunk of a diff, whose kept and removed lines must be there once."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        assert text.count(old) == 1, f"CONTRIBUTING's hunk fits {text.count(old)} places:\n{hunk}"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """A folder with the project's settings and networks, and the page's examples in it."""
    folder = tmp_path_factory.mktemp("patched")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "srfgan", folder / "srfgan", symlinks=True)
    (folder / "presets").symlink_to(ROOT / "presets")
    shutil.copytree(ROOT / "models", folder / "models", ignore=shutil.ignore_patterns("__pycache__"))
    for name, kind, code in EXAMPLES:
        file = folder / name
        assert file.exists() == (kind == "diff")
        file.write_text(changed(file.read_text(), code) if kind == "diff" else code)
    return folder


def run(folder, *arguments):
    """Python on the patched `models`, and on this project's other packages."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_block_of_code_on_the_page_is_an_example():
    assert len(EXAMPLES) == len(re.findall("^```(?:python|diff)$", PAGE, re.MULTILINE)) == 8


def test_the_examples_are_in_the_projects_order(patched):
    run(patched, "-m", "ruff", "check", "--no-cache", "models")
    run(patched, "-m", "ruff", "format", "--no-cache", "--check", "models")


TRAINED = """
import torch

import srfgan.models
from srfgan.models import Target, build_detector
from srfgan_cli.presets import load_preset

assert srfgan.models.__path__[0].startswith(FOLDER)
torch.manual_seed(0)
settings = [
    "model.detector=points",
    "model.num_classes=3",
    "model.backbone={name: r34, norm: bn, freeze_at: 0}",
    "model.neck={channels: 16, upsampler: sharpened}",
    "model.inference.score_threshold=0.0",
]
config = load_preset("fcos_r18_fpn", settings).model
assert config.scaled(2).borders == [128, 256, 512, 1024] and config.levels[0] == "p3"
model = build_detector(config)
assert type(model.upsample).__name__ == "Sharpened" and len(model.backbone.body["layer3"]) == 6
images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
some = Target(torch.tensor([[8.0, 8, 72, 44], [60, 20, 90, 60]]), torch.tensor([0, 2]))
none = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
totals = []
for targets in ([some, none], [some, none], [none, none]):
    optimizer.zero_grad()
    losses = model(images, targets)
    total = sum(losses.values())
    total.backward()
    assert all(x.grad.isfinite().all() for x in model.parameters())
    assert (float(losses["loss_points_loc"].detach()) > 0) == (targets[0] is some)
    if targets[0] is some:
        assert all(x.grad.any() for x in model.parameters())
        totals.append(float(total.detach()))
    optimizer.step()
assert totals[1] < totals[0]
(found, _), limit = model.eval()(images), config.inference.detections_per_image
assert 0 < len(found) <= limit and (found.scores.diff() <= 0).all()
assert (found.boxes >= 0).all() and (found.boxes <= torch.tensor([96, 64, 96, 64])).all()
"""


def test_the_examples_together_are_a_detector_that_trains_and_detects(patched):
    """`points` on `r34` and `sharpened`, also on images without objects; a preset takes all three by name."""
    run(patched, "-c", TRAINED.replace("FOLDER", repr(str(patched))))


def test_configs_of_version_0_1_load_beside_a_new_detector(patched):
    """They hold the sections of the detectors of then, and not the new one's."""
    old = str(ROOT / "tests" / "cli" / "data" / "config_0_1.yaml")
    run(patched, "-c", f"from srfgan_cli.presets import load_preset; load_preset({old!r})")


def rooms_imported(file):
    """The rooms of `srfgan_cli` that a file imports from, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("srfgan_cli."))


def test_a_room_imports_only_from_those_above_it_in_the_table():
    assert set(ROOMS) == {path.parent.name for path in ROOT.glob("srfgan_cli/*/__init__.py")}
    upwards = [
        f"{file.relative_to(ROOT)} imports {room}"
        for place, name in enumerate(ROOMS)
        for file in (ROOT / "srfgan_cli" / name).glob("**/*.py")
        for room in rooms_imported(file)
        if room not in ROOMS[: place + 1]
    ]
    assert not upwards
    assert not [file for file in ROOT.glob("models/**/*.py") if "srfgan_cli" in file.read_text("utf-8")]


def test_the_hooks_are_make_lint_and_the_workflow_runs_what_ci_runs():
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"].replace(".venv/bin", "$(BIN)") for hook in repository["hooks"]]
    assert hooks == recipe.strip().split("\n\t")
    workflows = [yaml.safe_load(file.read_text()) for file in ROOT.glob(".github/workflows/*.yml")]
    steps = [step.get("run") for one in workflows for job in one["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in steps
