"""`srfgan fit` and `demo` from end to end, tiny: what they run, go on with and refuse, and what their page says."""

import base64
import fcntl
import io
import json
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from srfgan.models.errors import InputError
from srfgan.models.instance_masks import MaskPatch, Polygons
from srfgan_cli.analysis.against import Change
from srfgan_cli.data.drawn import whole_mask
from srfgan_cli.fit import pace
from srfgan_cli.fit.experiment import plan_experiment, titled
from srfgan_cli.fit.page import fairness, verdict
from srfgan_cli.fit.record import bring_back, claim, let_go
from srfgan_cli.fit.run_fit import Unfinished
from srfgan_cli.machine.devices import Devices
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.library import flatten, plain_twin
from srfgan_cli.reproduction.graph import Settings, build_graph, detector_job
from srfgan_cli.reproduction.rows import table_rows
from srfgan_cli.screen.pages import duration

SHORT = [
    f"{stage}.solver.{key}"
    for stage in ("pretrain", "extract", "finetune")
    for key in ("iterations=2", "batch_size=2", "milestones=[]", "warmup_iterations=0", "log_every=1")
]
STEPS = ["baseline", "pretrain", "extract", "finetune"]


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


def test_the_whole_method(tmp_path, tiny, srfgan):
    options = [
        *tiny(),
        *(part for key in SHORT for part in ("--set", key)),
        "--preset",
        "demo",
        "--devices",
        "cpu",
    ]
    done = srfgan("fit", *options, "--json")
    assert done.code == 0, done.err
    folder = tmp_path / "runs/fit/demo"
    summary = json.loads(done.out)
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert list(summary["seconds"]) == [*STEPS, "total"] and all(s > 0 for s in summary["seconds"].values())
    assert summary["iterations"] == dict.fromkeys(STEPS, 2)
    assert summary["images_seen"] == dict.fromkeys(STEPS, 4)
    assert summary["gain"].keys() == summary["interval"].keys() == {"box", "mask"}
    assert summary["costs"]["method"]["parameters"] > summary["costs"]["plain"]["parameters"]
    for which, step in (("plain", "baseline"), ("method", "finetune")):
        scored = json.loads((folder / step / "evaluation.json").read_text())
        assert summary["scores"][which]["mask"] == scored["mask"]
    used = {step: torch.load(folder / step / "model.pt", weights_only=True)["preset"] for step in STEPS}
    assert used == {"baseline": "demo_nn", "pretrain": "demo", "extract": "demo", "finetune": "demo"}
    _check_page((folder / "index.html").read_text())

    before = {step: (folder / step / "model.pt").stat().st_mtime_ns for step in STEPS}
    (folder / "finetune/model.pt").unlink()  # as if the last step had been killed while it wrote its result
    again = srfgan("fit", *options)
    assert again.code == 0 and "(done)" in again.err, again.err
    after = {step: (folder / step / "model.pt").stat().st_mtime_ns for step in STEPS}
    assert [step for step in STEPS if after[step] != before[step]] == ["finetune"]
    other = srfgan("fit", *options, "--set", "finetune.solver.lr=0.5")
    assert other.code == 2 and "finetune.solver.lr" in other.err and "--overwrite" in other.err
    assert "holds a fit that was begun otherwise" in other.err and "--resume" not in other.err
    shorter = srfgan("fit", *options, "--scale", "0.5")
    assert shorter.code == 2 and "scale: 1.0 -> 0.5" in shorter.err

    def kept():
        paths = [
            path for path in folder.rglob("*") if path.is_file() and path.name not in ("log.txt", ".lock")
        ]
        return {path.relative_to(folder): path.read_bytes() for path in paths}

    whole = kept()
    failed = srfgan("fit", *options, "--overwrite", "--set", "initial_weights=missing.pt")
    assert failed.code == 1 and "is there again" in failed.err, failed.err
    assert kept() == whole


@pytest.mark.slow
def test_data_without_masks_gets_its_page(tmp_path, tiny, srfgan):
    """With an upsampler that learns with the detector: two trainings."""
    annotations = [
        {
            "id": number,
            "image_id": number,
            "category_id": 1,
            "bbox": [8, 8, 40, 30],
            "area": 1200,
            "iscrowd": 0,
        }
        for number in (1, 2)
    ]
    images = [{"id": number, "file_name": f"{number}.png", "height": 64, "width": 96} for number in (1, 2)]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (tmp_path / split).mkdir()
        for one in images:
            Image.effect_noise((96, 64), 90).convert("RGB").save(tmp_path / split / one["file_name"])
        (tmp_path / f"annotations/instances_{split}.json").write_text(json.dumps(document))
    options = tiny(
        "data.dataset=coco",
        "model.neck.upsampler=carafe",
        "finetune.reuse=none",
        *SHORT,
        detector="faster_rcnn",
    )
    done = srfgan("fit", "--preset", "faster_rcnn_r18_fpn", "--data-root", tmp_path, *options)
    assert done.code == 0, done.err
    page = Page((tmp_path / "runs/fit/faster_rcnn_r18_fpn/index.html").read_text())
    assert len(page.images) == 1 + 2 + 2  # the panel, both images, and curves


def test_a_fit_is_kept_until_another_is_whole(tmp_path):
    experiment = plan_experiment("demo", Settings(evaluations=1))
    jobs, folders = experiment.graph.jobs, experiment.folders(tmp_path)
    own = tmp_path / "baseline/notes.txt"  # the user's, in a folder of ours

    def made(text, *names):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)

    def left():
        return {
            str(path.relative_to(tmp_path)): path.read_text()
            for path in tmp_path.rglob("*")
            if path.is_file()
        }

    def begin(overwrite=True):
        claim(tmp_path, {"preset": "demo"}, jobs, folders, overwrite=overwrite)

    made("theirs", "index.html")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"holds index\.html, but no fit that has left it"):
            begin(overwrite)
    made("old", "index.html", "fit.json", "summary.json", "costs.json", "baseline/notes.txt")
    made("theirs", "finetune/config.yaml")
    with pytest.raises(InputError, match=r"finetune holds config\.yaml, but no run that has left it"):
        begin()
    shutil.rmtree(tmp_path / "finetune")
    made(
        "old",
        *(
            f"{step}/{name}"
            for step in STEPS
            for name in ("sources.json", "model.pt", "metrics.jsonl", "training/1.jpg")
        ),
    )
    old = left()
    begin()
    assert not (tmp_path / "baseline/model.pt").exists() and own.read_text() == "old"
    made("new", "baseline/metrics.jsonl", "baseline/failed.json", "baseline/training/1.jpg")
    assert bring_back(tmp_path, folders) and left() == old

    begin()
    made("new", "baseline/model.pt", "pretrain/checkpoint.pt")
    assert not bring_back(tmp_path, folders)  # there is something to go on with
    begin()  # once more from the start: it is the old one that is kept, not what has come to nothing
    assert not (tmp_path / "baseline/model.pt").exists()
    assert bring_back(tmp_path, folders) and left() == old

    (tmp_path / "finetune/model.pt").unlink()
    (tmp_path / "finetune/model.pt").mkdir()
    with pytest.raises(InputError, match="there is a folder where a run has a file"):
        begin()
    (tmp_path / "finetune/model.pt").rmdir()
    assert left() == {name: text for name, text in old.items() if name != "finetune/model.pt"}

    begin()
    made("new", "summary.json")
    let_go(tmp_path)
    assert set(left()) == {"baseline/notes.txt", "fit.json", "summary.json"}


def _check_page(text):
    shown = Page(text)
    assert not shown.open and "$" not in "".join(shown.words)
    assert all(address.startswith("data:") for address in shown.fetched)
    assert not re.search(r"https?://|@import|url\(|<script", text)
    assert len(shown.images) == 1 + 4 + 4
    for source in shown.images:
        picture = Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))
        picture.load()
        assert picture.width > 400


def test_a_plain_twin_differs_in_its_upsampling_alone():
    config = load_preset("mask_rcnn_r50_fpn", ["seed=3"])
    twin, shipped = flatten(plain_twin(config)), flatten(load_preset("mask_rcnn_r50_fpn_nn", ["seed=3"]))
    changed = {key for key in twin if twin[key] != shipped.get(key)}
    assert changed <= {"description", "rows", "sources.guide"}


def test_plain_detectors_are_not_told_of_an_upsampler_that_they_have_not(capsys):
    """The dry run was happy, and the first training refused what matches nothing."""
    upsampler, others = {"neck.upsample.*": 0.1}, {"backbone.*": 0.5}
    said = (
        "finetune.solver.recompute=true",
        f"finetune.lr_factors={json.dumps(upsampler | others)}",
        "finetune.freeze=[neck.upsample.tail.*, neck.lateral.*]",
    )
    experiment = plan_experiment("retinanet_r50_fpn", Settings(overrides=said))
    configs = {experiment.places[key]: job.config.finetune for key, job in experiment.graph.jobs.items()}
    for place in ("baseline", "guide"):
        config = configs[place]
        assert (config.solver.recompute, config.freeze, config.lr_factors) == (
            False,
            ["neck.lateral.*"],
            others,
        )
    assert configs["finetune"].solver.recompute and configs["finetune"].lr_factors == upsampler | others
    told = "mask_rcnn_r50_fpn_nn upsamples by nn, and runs without finetune.solver.recompute, neck.upsample.*"
    assert told in capsys.readouterr().err


def test_a_detector_that_goes_on_is_compared_with_the_plain_one_that_does():
    experiment = plan_experiment("upsamplers_srf_continued", Settings(evaluations=1))
    keys = {place: key for key, place in experiment.places.items()}
    plain = experiment.graph.jobs[keys["baseline"]]
    assert plain.sources == {"weights": keys["guide"]}
    (row,) = build_graph(table_rows("upsamplers", ["upsamplers_nn_continued"]), Settings()).results.values()
    assert plain.key == row, "it is the row that this preset is compared with in its table"
    assert "both detectors go on" in titled(experiment, experiment.graph.jobs[keys["guide"]])[1]
    on = ("finetune.start_from_guide=true", "finetune.reuse=none")
    with pytest.raises(InputError, match=r"goes on from mask_rcnn_r18_fpn_nn .* would have that name"):
        plan_experiment("mask_rcnn_r18_fpn", Settings(overrides=on))


@pytest.mark.parametrize(
    ("preset", "places"),
    [
        ("mask_rcnn_r18_fpn", STEPS),
        ("retinanet_r50_fpn", ["baseline", "guide", "pretrain", "extract", "finetune"]),
        ("upsamplers_carafe", ["baseline", "finetune"]),
        ("upsamplers_dysample_continued", ["baseline", "guide", "finetune"]),
        ("cascade_s101_pafpn_tta", [*STEPS, "eval"]),
    ],
)
def test_what_an_experiment_runs(preset, places):
    experiment = plan_experiment(preset, Settings(evaluations=1))
    assert sorted(experiment.places.values()) == sorted(places)
    baseline, target = (
        detector_job(experiment.graph, name) for name in (experiment.plain, experiment.method)
    )
    assert baseline.config.model.neck.upsampler == "nn" != target.config.model.neck.upsampler
    titles = [titled(experiment, job)[0] for job in experiment.graph.jobs.values()]
    assert len(set(titles)) == len(titles)


def test_what_cannot_be_compared_is_refused(srfgan, tmp_path):
    plain = srfgan("fit", "--preset", "mask_rcnn_r18_fpn_nn", "--dataset", "shapes")
    assert plain.code == 2 and "`mask_rcnn_r18_fpn`" in plain.err
    without = srfgan("fit", "--preset", "mask_rcnn_r18_fpn")
    assert without.code == 2 and "--data-root" in without.err
    with pytest.raises(InputError, match="reaches mask_rcnn_r50_fpn_nn too"):
        plan_experiment("retinanet_r50_fpn", Settings(overrides=("model.neck.upsampler=afi",)))
    with pytest.raises(
        InputError, match=r"`srfgan fit` is given no .*: leave them out with --set finetune\.self_tr"
    ):
        plan_experiment("cascade_rcnn_swin_t_bifpn", Settings())
    (tmp_path / "taken").touch()
    taken = srfgan("fit", "--preset", "demo", "--output-dir", "taken")
    assert taken.code == 2 and "is a file" in taken.err


def test_a_fit_at_work_keeps_the_runs_that_it_has_done(srfgan, tmp_path):
    """They lie idle: a second fit with --overwrite took them away, and the first failed at its next run."""
    folder = tmp_path / "runs/fit/demo"
    done = folder / "baseline/model.pt"
    done.parent.mkdir(parents=True)
    done.touch()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = srfgan("fit", "--preset", "demo", "--devices", "cpu", "--overwrite")
    assert refused.code == 2 and "still running there" in refused.err.replace("\n", " ")
    assert done.is_file()


def test_a_demo_goes_on_with_the_length_that_it_began_with(srfgan, monkeypatch, tmp_path):
    asked = []

    def stopped(experiment, settings, *arguments, **named):
        asked.append(settings.scale)
        raise Unfinished("stopped", interrupted=True)

    monkeypatch.setattr("srfgan_cli.fit.run_fit.run_fit", stopped)
    monkeypatch.setattr(pace, "_seconds_per_step", lambda: 2 * pace.BUDGET / (pace.FIXED + pace.WHOLE))
    done = srfgan("demo", "--devices", "cpu")
    assert done.code == 130 and "stopped" in done.err and "six minutes" in done.err
    assert 0.3 < asked[0] < 0.5
    (tmp_path / "srfgan-demo").mkdir()
    (tmp_path / "srfgan-demo/fit.json").write_text('{"scale": 0.25}')
    srfgan("demo", "--devices", "cpu")
    assert asked[1] == 0.25


def test_the_demo_is_shortened_only_where_the_machine_is_slow(monkeypatch):
    cpu = Devices("cpu", 1)
    for step, expected in ((pace.BUDGET / 1e5, 1.0), (pace.BUDGET, pace.SHORTEST)):
        monkeypatch.setattr(pace, "_seconds_per_step", lambda step=step: step)
        assert pace.demo_scale(cpu) == expected
    assert pace.demo_scale(Devices("cuda", 1)) == 1.0
    assert pace.one_device("cpu") == cpu
    with pytest.raises(InputError, match="one device"):
        pace.one_device("2")


def test_all_images_of_stages_1_and_2_count():
    """Two generators, one of which teaches the other, were counted as none."""
    experiment = plan_experiment("upsamplers_srf_thin_distilled", Settings(evaluations=1))
    jobs = {experiment.places[key]: job for key, job in experiment.graph.jobs.items()}
    costs = dict.fromkeys(("plain", "method"), SimpleNamespace(parameters=1e6))
    fitted = SimpleNamespace(
        steps={name: SimpleNamespace(job=job) for name, job in jobs.items()},
        target=experiment.target,
        costs=costs,
        method="srf",
    )
    images = {job.kind: job.images for job in jobs.values()}
    assert [job.kind for job in jobs.values()].count("pretrain") == 2
    assert f"{2 * images['pretrain'] + images['extract']:,} more" in fairness(fitted)


@pytest.mark.slow
def test_an_experiment_may_end_with_stage_2(tmp_path, tiny, srfgan):
    """As A3 of the paper's table 4; it had failed when everything was trained."""
    assert plan_experiment("table4_a3", Settings(evaluations=1)).target == "extract"
    options = [
        *tiny("stages=[pretrain,extract]"),
        *(part for key in SHORT for part in ("--set", key)),
        *("--preset", "demo", "--devices", "cpu", "--json"),
    ]
    done = srfgan("fit", *options)
    assert done.code == 0, done.err
    scored = json.loads((tmp_path / "runs/fit/demo/extract/evaluation.json").read_text())
    assert json.loads(done.out)["scores"]["method"]["box"] == scored["box"]
    words = " ".join(Page((tmp_path / "runs/fit/demo/index.html").read_text()).words)
    assert "srfgan predict FILE --weights runs/fit/demo/extract" in words


def test_the_verdict_is_honest():
    def said(*changes):
        tasks = ["box", "mask"]
        changes = {task: {"AP": change} for task, change in zip(tasks, changes, strict=True)}
        return verdict(SimpleNamespace(changes=changes, tasks=tasks))

    sure, less = Change(2.0, (0.5, 3.5)), Change(-2.0, (-3.0, -1.0))
    chance, nothing = Change(1.5, (-0.5, 3.5)), Change(0.04, (-1.0, 1.0))
    both = said(sure, Change(1.949, (0.1, 3.0)))  # 1.95 by two digits, 2.0 by one of these
    assert "is ahead: +2.0 box AP, +1.9 mask AP" in both and "does not explain it" in both
    assert "<strong>not</strong> above the baseline: \N{MINUS SIGN}2.0 box AP" in said(less, nothing)
    assert "neither detector is ahead in both: +1.5 box AP, \N{MINUS SIGN}2.0 mask AP with" in said(
        chance, less
    )
    assert "does not explain that of the mask AP; the other it may" in said(chance, less)
    assert "<strong>not</strong> above the baseline: 0.0 box AP, 0.0 mask AP" in said(nothing, nothing)
    assert "images may explain it" in said(nothing, nothing) and "one training of each" in said(sure, sure)
    assert "too few validation images" in said(sure, Change(1.0, None))
    assert (duration(47.6), duration(312)) == ("48 s", "5 min 12 s")


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
