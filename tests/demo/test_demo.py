"""The demo from end to end, tiny; and what its page says of numbers."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from srfgan.models.errors import InputError
from srfgan.models.structures import MaskPatch, Polygons
from srfgan_cli.demo.documents import write_report
from srfgan_cli.demo.page import verdict
from srfgan_cli.demo.run_demo import one_device, run_demo
from srfgan_cli.machine.devices import Devices
from srfgan_cli.machine.interrupt import Interrupted
from srfgan_cli.screen.pages import duration
from srfgan_cli.visualization.truth import whole_mask

CPU = Devices("cpu", 1)
SHORT = [
    f"{stage}.solver.{key}"
    for stage in ("pretrain", "extract", "finetune")
    for key in ("iterations=2", "batch_size=2", "milestones=[]", "warmup_iterations=0")
]


class Page(HTMLParser):
    """Collects what a browser would fetch, and the page's words."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.images, self.open, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.fetched += [values[key] for key in ("src", "href", "srcset", "poster") if key in values]
        if tag == "img":
            self.images.append(values["src"])
            assert values["alt"]
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_demo(tmp_path, tiny, srfgan):
    folder = tmp_path / "demo"
    overrides = [*tiny()[1::2], *SHORT]
    outcome = run_demo(folder, CPU, overrides=overrides)
    page = write_report(outcome, folder)

    summary = json.loads((folder / "summary.json").read_text())
    steps = ["baseline", "pretrain", "extract", "finetune"]
    assert list(summary["seconds"]) == [*steps, "total"] and all(s > 0 for s in summary["seconds"].values())
    assert summary["seconds"]["total"] >= sum(summary["seconds"][step] for step in steps) - 0.5
    for row in ("nn", "srf"):
        assert {"AP", "AP50", "AP75"} <= set(summary[row]["box"]) and set(summary[row]["mask"]) >= {"AP"}
    assert summary["iterations"] == dict.fromkeys(steps, 2)
    assert summary["images_seen"] == dict.fromkeys(steps, 4)
    assert summary["parameters"]["srf"] > summary["parameters"]["nn"]
    used = {step: torch.load(folder / step / "model.pt", weights_only=True)["preset"] for step in steps}
    assert used == {"baseline": "demo_nn", "pretrain": "demo", "extract": "demo", "finetune": "demo"}

    text = page.read_text()
    shown = Page(text)
    assert not shown.open and "$" not in "".join(shown.words)
    assert all(address.startswith("data:") for address in shown.fetched)
    assert not re.search(r"https?://|@import|url\(|<script", text)
    assert len(shown.images) == 1 + 4 + 4
    for source in shown.images:
        picture = Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))
        picture.load()
        assert picture.width > 400

    with pytest.raises(InputError, match="holds a finished demo"):
        run_demo(folder, CPU, overrides=overrides)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    options = [part for override in overrides for part in ("--set", override)]
    alone = srfgan("finetune", "--preset", "demo_nn", "--devices", "cpu", "--json", *options)
    torch.set_num_threads(threads)
    assert json.loads(alone.out)["evaluation"]["box"] == summary["nn"]["box"], (
        "the page's commands are the demo"
    )
    weights = [
        torch.load(path, weights_only=True)["modules"]["detector"]
        for path in (folder / "baseline/model.pt", "runs/finetune/demo_nn/model.pt")
    ]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    refused = srfgan("demo", "--output-dir", folder)
    assert refused.code == 2 and "--overwrite" in refused.err


def test_the_verdict_is_honest():
    def said(nn, srf):
        rows = {
            name: {task: {"AP": ap} for task, ap in zip(("box", "mask"), aps, strict=True)}
            for name, aps in (("nn", nn), ("srf", srf))
        }
        return verdict({**rows, "data": {"val": 80}})

    assert "is ahead: +2.0 box AP, +1.5 mask AP" in said((20.0, 15.0), (22.0, 16.5))
    assert "<strong>not</strong> above the baseline: \N{MINUS SIGN}2.0 box AP" in said(
        (20.0, 15.0), (18.0, 15.0)
    )
    assert "neither" in said((20.0, 15.0), (21.0, 14.0))
    assert "scored on 80 images" in said((0.0, 0.0), (0.0, 0.0))
    assert (duration(47.6), duration(312)) == ("48 s", "5 min 12 s")


def test_an_interrupted_demo_says_how_to_go_on(srfgan, monkeypatch):
    def stopped(*arguments):
        raise Interrupted

    monkeypatch.setattr("srfgan_cli.demo.run_demo.train_stage", stopped)
    done = srfgan("demo", "--devices", "cpu")
    assert done.code == 130 and "starts the demo over" in done.err


def test_one_device_only():
    assert one_device("cpu") == CPU
    with pytest.raises(InputError, match="one device"):
        one_device("2")


def test_ground_truth_masks_lie_where_they_belong():
    square = Polygons((torch.tensor([[2.0, 1.0], [5.0, 1.0], [5.0, 4.0], [2.0, 4.0]]).double().numpy(),))
    expected = torch.zeros(6, 8, dtype=torch.bool)
    expected[1:4, 2:5] = True
    assert torch.equal(whole_mask(square, (6, 8)), expected)

    corner = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8).numpy()
    half_outside = MaskPatch(corner, torch.tensor([-1.0, 3.0, 1.0, 5.0]).double().numpy())
    expected = torch.zeros(4, 8, dtype=torch.bool)
    assert torch.equal(whole_mask(half_outside, (4, 8)), expected)
    doubled = MaskPatch(corner, torch.tensor([2.0, 0.0, 6.0, 4.0]).double().numpy())
    pasted = whole_mask(doubled, (4, 8))
    assert pasted[:, 2:4].all() and pasted[2:, 2:6].all() and not pasted[0, 5] and not pasted[:, 6:].any()
