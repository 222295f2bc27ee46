"""What several tests need: the command in this process, and experiments small enough to run for real."""

import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from detector_configs import fitting

TINY = (
    "data.dataset=shapes",
    "data.shapes_train=12",
    "data.shapes_val=4",
    "data.shapes_size=64",
    "data.short_sides=[64]",
    "data.test_short_side=64",
    "data.workers=0",
    "model.backbone.name=r10",
    "model.neck.channels=16",
    "model.box_head.fc_dim=32",
    "model.mask_head.channels=16",
    "model.mask_head.num_convs=1",
    "model.rpn.post_nms_topk_train=40",
    "model.rpn.post_nms_topk_test=20",
    "discriminator.widths=[16, 16]",
)
"""Overrides that shrink the R-18 presets, backbone included, to a second or two of training on the built-in data."""


FAST = {"data", "evaluation", "models", "training"}
"""Folders whose tests are run on every save: under a minute together on two cores, without the following."""

LONG = {
    "test_backbones.py",
    "test_compilation.py",
    "test_loaders.py",
    "test_precision.py",
    "test_replacement.py",
    "test_stages.py",
    "test_timm_backbones.py",
    "test_torchvision_fpn.py",
    "test_weights.py",
}
"""Files in them that build dozens of whole networks, compile them, or start processes."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks that follow from what a test is: `command` from its fixtures, `fast` from its file."""
    here = Path(__file__).parent
    for item in items:
        if "srfgan" in item.fixturenames:
            item.add_marker("command")
        marks = {mark.name for mark in item.iter_markers()}
        short = item.path.relative_to(here).parts[0] in FAST and item.path.name not in LONG
        if short and not marks & {"command", "fuzz", "slow"}:
            item.add_marker("fast")


def pytest_addoption(parser):
    """Here and not in `parity/`, as only this file is read before the options are."""
    parser.addoption(
        "--cases", metavar="DIR", help="tests/parity: a folder of case folders, instead of those here"
    )


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory, monkeypatch):
    """Hide GPUs, and keep generated data out of the user's cache, but share it between tests."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)


@pytest.fixture(autouse=True)
def same_draws():
    """A test draws the same numbers alone, among others and in any order; no others that the product starts from."""
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1_000_003)


@pytest.fixture
def more_tables(monkeypatch, tmp_path):
    """Put tables of YAML beside the papers', for presets to name their rows."""
    from srfgan_cli.presets import facts

    def add(tables: str) -> None:
        file = tmp_path / "facts.yaml"
        file.write_text(f"{facts.FACTS.read_text()}\n{tables}")
        monkeypatch.setattr(facts, "FACTS", file)
        forget()

    def forget() -> None:
        facts.load_tables.cache_clear()
        facts.load_rows.cache_clear()

    yield add
    forget()


@pytest.fixture
def srfgan(monkeypatch, capsys, tmp_path):
    """Run a command through the real entry point, in an empty folder."""
    from srfgan_cli.main import run

    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["srfgan", *map(str, arguments)])
        code = 0
        try:
            run()
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def tiny(*more: str, detector: str = "mask_rcnn") -> list[str]:
    """The options that make a command with a preset of this detector tiny."""
    return [part for override in (*fitting(TINY, detector), *more) for part in ("--set", override)]


@pytest.fixture(name="tiny")
def tiny_fixture():
    return tiny
