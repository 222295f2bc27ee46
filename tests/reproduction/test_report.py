"""The report's numbers from runs whose scores are known, and its files."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from finished_runs import finish
from matplotlib.figure import Figure
from PIL import Image

from srfgan_cli.reproduction.charts import draw_charts
from srfgan_cli.reproduction.columns import columns
from srfgan_cli.reproduction.documents import markdown, verdict, write_report
from srfgan_cli.reproduction.graph import Settings, build_graph
from srfgan_cli.reproduction.measure import Cost
from srfgan_cli.reproduction.outcome import interval, spread, summarize
from srfgan_cli.reproduction.rows import table_rows
from srfgan_cli.reproduction.run_jobs import job_folders
from srfgan_cli.visualization.curves import from_zero
from srfgan_cli.visualization.palette import with_palette

SETTINGS = Settings(scale=0.01, seeds=3)
SCORES = {
    "table5_nn": [30.0, 32.0, 31.0],
    "table5_bilinear": [30.0, 32.0, 31.0],
    "table5_srf": [33.0, 34.5, 34.5],
}

RPN = ("pre_nms_topk_train", "pre_nms_topk_test", "post_nms_topk_train", "post_nms_topk_test")


@pytest.fixture
def finished(tmp_path):
    """Three rows with three seeds each; bicubic has not run, its first seed has failed."""
    graph = build_graph(table_rows("table5"), SETTINGS)
    folders = job_folders(graph, tmp_path)
    for (row, seed), key in graph.results.items():
        folder = folders[key]
        folder.path.mkdir(parents=True, exist_ok=True)
        if row not in SCORES:
            if seed == 0:
                folder.failed("exit code 2: Error: the disk is full")
            continue
        finish(graph.jobs[key], folder, SCORES[row][seed])
    return graph, folders


@pytest.fixture
def summary(finished):
    graph, folders = finished
    costs = {"table5_nn": Cost(44_000_000, 250.0, 72.0, (800, 1216))}
    blocked = {graph.results["table5_bicubic", 1]: graph.results["table5_bicubic", 0]}
    return summarize(
        "table5",
        graph,
        SETTINGS,
        folders,
        costs,
        device="CPU",
        command="srfgan reproduce table5",
        blocked=blocked,
    )


def row(summary, name):
    return next(row for row in summary["rows"] if row["preset"] == name)


def test_means_spreads_and_paired_differences(summary):
    srf = row(summary, "table5_srf")
    assert srf["measured"]["box"]["AP"] == {"mean": 34.0, "spread": 0.866, "values": [33.0, 34.5, 34.5]}
    assert srf["measured"]["mask"]["AP"]["mean"] == 30.0
    # Seed by seed: +3.0, +2.5, +3.5; smaller a spread than that of either row.
    assert srf["difference"]["box"] == {
        "mean": 3.0,
        "spread": 0.5,
        "values": [3.0, 2.5, 3.5],
        "interval": [1.758, 4.242],  # 4.303 x 0.5 / sqrt(3) either way
    }
    assert srf["baseline"] == "table5_nn" and srf["printed"]["box"]["AP"] == 41.2
    assert srf["printed_difference"] == {"box": 2.6, "mask": 1.8}
    assert srf["measured"]["box"]["AR@100"]["mean"] == 43.0
    assert "APs" not in srf["measured"]["box"], "a number that no seed has is left out"
    assert "By the objects" not in markdown(summary)
    bicubic = row(summary, "table5_bicubic")
    assert (bicubic["measured"], bicubic["difference"], bicubic["seeds"]) == ({}, {}, 0)


def test_scores_by_size_have_a_table_of_their_own(finished, tmp_path):
    graph, folders = finished
    known = {"table5_nn": [10.0, 11.0, 12.0], "table5_srf": [11.0, 12.0, 13.5]}
    for (name, seed), key in graph.results.items():
        if name in known:
            file = folders[key].run.evaluation
            scores = json.loads(file.read_text())
            scores["box"]["APs"] = known[name][seed]
            file.write_text(json.dumps(scores))
    summary = summarize(
        "table5", graph, SETTINGS, folders, {}, device="CPU", command="srfgan reproduce table5"
    )
    assert row(summary, "table5_srf")["difference_by_size"]["APs"]["box"]["values"] == [1.0, 1.0, 1.5]
    text = markdown(summary)
    assert "## By the objects' size\n\n| row | box AP, small measured | box AP, small diff. |\n" in text
    assert "| table5_srf | 12.2 ± 1.3 | +1.2 ± 0.3 (+0.5 to +1.9) |" in text
    html = write_report(summary, {}, {}, tmp_path / "out").read_text()
    assert "By the objects' size" in html and '<td class="up">+1.2' in html


def test_the_budgets_of_each_row_are_counted(summary):
    assert row(summary, "table5_nn")["iterations"] == row(summary, "table5_srf")["iterations"] == 900
    assert row(summary, "table5_nn")["images"] == {"last_stage": 900 * 16, "stages_1_and_2": 0, "guide": 0}
    assert row(summary, "table5_srf")["images"] == {
        "last_stage": 900 * 16,
        "stages_1_and_2": 1500 * 8 + 2700 * 16,
        "guide": 900 * 16,
    }
    # Two seconds an iteration; stages 1 and 2 have logged nothing.
    assert row(summary, "table5_nn")["seconds"] == {"CPU": {"stages": 1800, "guide": 0}}
    assert row(summary, "table5_srf")["seconds"] == {"CPU": {"stages": 1800, "guide": 1800}}
    cells = {column.head: column for column in columns(summary["rows"])}
    srf = row(summary, "table5_srf")
    assert (cells["images"].text(srf), cells["images"].below(srf)) == ("69,600", "F 14,400")
    assert (cells["seconds"].text(srf), cells["seconds"].below(srf)) == ("1,800", "F 1,800")


def test_what_patience_has_left_out_was_not_seen(tmp_path):
    """Iterations and images are those that were trained, the mean over the seeds; a plan's where nothing is scored."""
    overrides = ("finetune.solver.patience=2", "finetune.solver.evaluate_every=1")
    settings = Settings(scale=0.01, seeds=2, overrides=overrides)
    graph = build_graph(table_rows("table5", ["table5_nn", "table5_bilinear"]), settings)
    folders = job_folders(graph, tmp_path)
    for seed, ended in enumerate((300, 600)):
        key = graph.results["table5_nn", seed]
        finish(graph.jobs[key], folders[key], 30.0)
        log = folders[key].run.metrics
        records = map(json.loads, log.read_text().splitlines()[:-1])
        kept = [record | {"iteration": min(ended, record["iteration"])} for record in records]
        log.write_text("".join(json.dumps(record) + "\n" for record in kept))
    summary = summarize("table5", graph, settings, folders, {}, device="CPU", command="")
    assert row(summary, "table5_nn")["iterations"] == 450
    assert row(summary, "table5_nn")["images"]["last_stage"] == 450 * 16
    assert row(summary, "table5_bilinear")["iterations"] == 900
    done = {
        run["seed"]: (run["iterations"], run["images"]) for run in summary["runs"] if run["state"] == "done"
    }
    assert done == {0: (300, 300 * 16), 1: (600, 600 * 16)}


def test_runs_say_how_far_they_are_and_why_not_further(summary):
    states = {run["run"]: (run["state"], run["why"]) for run in summary["runs"]}
    assert ("failed", "exit code 2: Error: the disk is full") in states.values()
    assert sum(state == "blocked" for state, _ in states.values()) == 1
    done = [run for run in summary["runs"] if run["state"] == "done"]
    assert len(done) == 9 and all(run["training_seconds"] == 1800 for run in done)


@pytest.mark.parametrize(
    "values, coloured, between",
    [
        ([2.9, 3.1], "", ""),
        ([0.5, 2.0, 4.0], "", "-2.2 to +6.5"),
        ([-2.0, -3.0, -4.0], "down", "-5.5 to -0.5"),
        ([2.9, 3.0, 3.1], "up", "+2.8 to +3.2"),
    ],
)
def test_few_seeds_need_large_differences_to_count(summary, values, coloured, between):
    difference = spread(values) | {"interval": interval(values)}
    found = {**row(summary, "table5_srf"), "difference": {"box": difference}}
    (column,) = [column for column in columns([found]) if (column.group, column.head) == ("box AP", "diff.")]
    assert column.style(found) == coloured
    assert column.below(found).replace("\N{MINUS SIGN}", "-") == between


def test_the_verdict_says_what_is_missing(summary):
    said = verdict(summary)
    assert "3 of 4 rows measured, 3 seeds each." in said and "2 runs failed" in said
    assert "0.01 of the preset's" in said and "No interval" not in said
    for found in summary["rows"]:
        for difference in found["difference"].values():
            difference["interval"] = None
    few = "No interval can be given of differences with fewer than 3 seeds."
    assert few in verdict(summary)
    for found in summary["rows"]:
        found["difference"] = {}
    assert few not in verdict(summary)


def test_the_files_hold_the_same_numbers(summary, finished, tmp_path):
    charts = draw_charts(summary, *finished, tmp_path / "out")
    assert {"differences", "budgets", "training"} <= set(charts)
    page = write_report(summary, charts, {}, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(summary))
    text = markdown(summary)
    assert (tmp_path / "out" / "report.md").read_text() == text
    assert "| table5_srf | 34.0 ± 0.9 | 41.2 | +3.0 ± 0.5 (+1.8 to +4.2) | +2.6 |" in text
    assert len({line.count("|") for line in text.split("\n\n")[2].splitlines()}) == 1, "a whole table"
    html = page.read_text()
    for number in ("34.0 ± 0.9", "+3.0 ± 0.5", "41.2", "the disk is full", "srfgan reproduce table5"):
        assert number in html
    references = References(html)
    assert references.outside == [], "the page works offline"
    assert '<td class="up">+3.0' in html, "its 95% interval over three seeds is 1.8 to 4.2"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), "reused (M), 12 epochs"),
        (("model.inference.score_threshold=0.1",), "reused (M), 12 epochs"),
        (("model.backbone.name=r18",), "12 epochs; here with backbone r18"),
        (
            ("model.detector=faster_rcnn", "model.neck.name=pafpn", "model.neck.channels=64"),
            "epochs; here with detector faster_rcnn, neck pafpn, neck.channels 64",
        ),
        (
            (
                *(f"model.rpn.{name}=9" for name in RPN),
                "model.neck.upsampler=afi",
                "model.box_head.fc_dim=64",
            ),
            "upsampler afi, rpn.pre_nms_topk_train 9, rpn.pre_nms_topk_test 9, rpn.post_nms_topk_train 9, "
            "rpn.post_nms_topk_test 9, 1 more",
        ),
    ],
)
def test_a_row_says_what_the_settings_have_made_of_its_detector(tmp_path, overrides, said):
    settings = Settings(overrides=overrides)
    graph = build_graph(table_rows("table5", ["table5_srf"]), settings)
    folders = job_folders(graph, tmp_path)
    summary = summarize("table5", graph, settings, folders, {}, device="CPU", command="")
    assert row(summary, "table5_srf")["description"].endswith(said)


def test_what_the_settings_make_of_all_rows_alike_is_said_once(tmp_path):
    settings = Settings(overrides=("model.backbone.name=r18",))
    graph = build_graph(table_rows("table5"), settings)
    summary = summarize("table5", graph, settings, job_folders(graph, tmp_path), {}, device="CPU", command="")
    assert "Every row is run with backbone r18." in verdict(summary)
    assert not any("r18" in row["description"] for row in summary["rows"])


def test_a_documents_speed_stands_beside_the_measured_time(tmp_path):
    """Sparse R-CNN's article says 22 images per second, on another device than this."""
    graph = build_graph(table_rows("sparse_rcnn"), Settings())
    cost = Cost(106_000_000, 161.1, 1700.0, (800, 1216))
    costs = {"sparse_rcnn_r50_fpn_300pro": cost}
    summary = summarize(
        "sparse_rcnn", graph, Settings(), job_folders(graph, tmp_path), costs, device="CPU", command=""
    )
    found = row(summary, "sparse_rcnn_r50_fpn_300pro")
    shown = {column.head: column.text(found) for column in columns([found]) if column.group == "cost"}
    assert shown == {"M params": "106.0", "GMAC": "161.1", "ms": "1700", "paper's ms": "45"}
    assert row(summary, "sparse_rcnn_r50_fpn_nn")["description"].endswith(
        "37 epochs. 42.8 is the authors' README's; the article's 45.0 is of 300 proposals and random crops"
    )


@pytest.mark.parametrize("values", [[30.0, 30.1, 30.2], [30.0], [0.0, 0.0], [0.0, 41.5, float("nan")]])
def test_no_marker_of_a_scale_from_zero_is_cut(values):
    axes = Figure(figsize=(4, 3), dpi=100).subplots()
    axes.plot(range(len(values)), values, marker="o", markersize=6)
    from_zero(axes)
    bottom, top = axes.get_ylim()
    highest = max(value for value in values if value == value)
    half = 3 / 72 * 100 / (axes.bbox.height / (top - bottom))
    assert bottom == 0 and highest + half <= top
    assert not axes.lines[0].get_clip_on(), "points at zero are whole as well"


def test_thin_lines_keep_their_colours():
    """As rare a colour as can be, beside shades of another."""
    picture = Image.linear_gradient("L").resize((512, 512)).convert("RGB")
    picture.paste((214, 39, 40), (100, 0, 102, 512))
    picture.paste((44, 160, 44), (200, 0, 201, 512))
    kept = np.asarray(with_palette(picture).convert("RGB")).astype(int)
    assert np.abs(kept - np.asarray(picture)).max() <= 3


class References(HTMLParser):
    """What a page loads from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.outside = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href") and not value.startswith("data:"):
                self.outside.append(value)


class Seen(HTMLParser):
    """What a reader sees of a page, and which elements it is made of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.attributes = set(), "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [name for name, _ in attributes]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a &lt; b & 猫"]
)
def test_the_page_shows_names_as_they_are(summary, tmp_path, name):
    picture = tmp_path / "p.png"
    Image.new("RGB", (2, 2)).save(picture)
    plain = Seen(write_report(summary, {}, {"row": picture}, tmp_path / "plain").read_text())
    for place in (summary, summary["rows"][0], summary["runs"][0]):
        place.update(
            {key: name for key in ("about", "command", "preset", "description", "why", "run") if key in place}
        )
    summary["runs"][0]["rows"] = [name]
    shown = Seen(write_report(summary, {}, {name: picture}, tmp_path / "out").read_text())
    assert shown.text.count(name) >= 7
    assert shown.tags == plain.tags and set(shown.attributes) == set(plain.attributes)
