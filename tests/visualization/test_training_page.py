"""A training's page: what its charts say, and that a run writes it, keeps its best, and trains as without."""

import io
import json
import re
from xml.etree import ElementTree

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srfgan_cli.visualization.svg_chart import line_chart


def test_a_chart_shows_every_series_within_its_frame():
    series = {
        "falling": [(number, 10.0 / (1 + number)) for number in range(1000)],
        "<odd> & é": [(0, 1.0), (500, float("nan")), (999, 3.0)],
    }
    text = line_chart("losses", series, smooth=True)
    figure = ElementTree.fromstring(text)
    lines = figure.findall(".//polyline")
    assert len(lines) == 4 and "&lt;odd&gt; &amp; é" in text
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        assert 2 <= len(points) <= 400
        assert all(56 <= x <= 508 and 30 <= y <= 214 for x, y in points)
    down = [float(point.split(",")[1]) for point in lines[1].get("points").split()]
    assert down == sorted(down), "less is lower, and further down the page"


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [5.0, 5.0], [-1.0, 1.0], [1e-9, 1e9]])
def test_a_chart_of_next_to_nothing(values):
    for options in ({}, {"smooth": True}, {"from_zero": True}):
        text = line_chart("x", {"a": list(enumerate(values))}, **options)
        assert "nan" not in text and "inf" not in text
        ElementTree.fromstring(text)
    assert line_chart("x", {"a": [(1, float("nan"))]}) == ""
    assert line_chart("x", {"a": [(77, 0.5)]}, from_zero=True).count(">77</text>") == 1


def test_a_training_draws_its_page_keeps_its_best_and_stops_when_it_gets_no_better(srfgan, tiny, tmp_path):
    schedule = (
        "finetune.solver.evaluate_every=2",
        "finetune.solver.log_every=1",
        "finetune.solver.lr=0.0001",
        "finetune.solver.patience=1",
    )
    options = [
        "--preset",
        "mask_rcnn_r18_fpn_nn",
        "--iterations",
        "9",
        "--batch-size",
        "2",
        "--devices",
        "cpu",
    ]
    done = srfgan("finetune", *options, *tiny(*schedule), "--output-dir", "run")
    assert done.code == 0, done.err
    folder = tmp_path / "run"
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = {line["iteration"]: line["evaluation"]["mask"]["AP"] for line in log if "evaluation" in line}
    evaluated, values = list(scores), list(scores.values())
    worse = [place for place in range(1, len(values)) if values[place] <= values[place - 1]]
    last = worse[0] if worse else 4
    assert evaluated == [2, 4, 6, 8, 9][: last + 1]
    if last < 4:
        assert (
            f"Stopped early, after iteration {evaluated[-1]} of 9: no better AP in 1 evaluation(s)"
            in done.err
        )

    text = (folder / "training.html").read_text()
    headline = (
        "Done"
        if last == 4
        else f"Stopped early, at iteration {evaluated[-1]} of 9: no better AP in 1 evaluation"
    )
    assert "Load this page again" not in text, "nothing comes any more"
    assert f"<h1>{headline}" in text and not re.search(r"https?://(?!www.w3)|<script", text)
    assert all(f"<h3>Iteration {iteration}</h3>" in text for iteration in evaluated)
    assert text.count("<img ") == 1 + 1 + len(evaluated), "samples, truth, evaluations"
    board = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    board.Reload()
    steps = {name: [event.step for event in board.Images(name)] for name in board.Tags()["images"]}
    assert steps == {"samples": [0], "truth": [0], "found": evaluated}
    assert Image.open(io.BytesIO(board.Images("found")[0].encoded_image_string)).width > 64

    own = (folder / "results.json").read_bytes()
    scored = json.loads(srfgan("eval", "--weights", folder / "best.pt", "--json").out)
    assert scored["mask"]["AP"] == max(scores.values())
    assert scored["results"] == str(folder / "best" / "results.json")
    trained_on = json.loads(srfgan("eval", "--weights", folder, "--split", "train", "--json").out)
    assert trained_on["results"] == str(folder / "train" / "results.json")
    assert (folder / "results.json").read_bytes() == own, "what the run's own weights found in the val split"

    again = srfgan(
        "finetune", *options, *tiny(*schedule), "--output-dir", "run", "--overwrite", "--iterations", "1"
    )
    assert again.code == 0 and not (folder / "training" / "found-2.jpg").exists()
