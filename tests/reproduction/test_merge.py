"""`srfgan reproduce --merge`: runs made apart, as one report."""

import json
from pathlib import Path

import pytest
from finished_runs import finish

from srfgan.models.errors import InputError
from srfgan_cli.reproduction.documents import write_report
from srfgan_cli.reproduction.graph import Settings, build_graph
from srfgan_cli.reproduction.measure import Cost
from srfgan_cli.reproduction.merge import merge_runs
from srfgan_cli.reproduction.outcome import summarize
from srfgan_cli.reproduction.places import write_plan
from srfgan_cli.reproduction.rows import table_rows
from srfgan_cli.reproduction.run_jobs import job_folders

GPU, CPU = "1 x a GPU", "CPU, 1 process of 2 threads"
SCORES = {
    "table5_nn": (30.0, 32.0, 31.0),
    "table5_srf": (33.0, 34.5, 34.5),
    "table5_bilinear": (30.5, 33.0, 31.0),
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Make a folder as `srfgan reproduce table5` leaves it, brought home without the weights.

    `done`: rows that have a score, all by default.
    """
    monkeypatch.chdir(tmp_path)

    def make(
        name, *rows, seed=0, seeds=1, device=GPU, scores=SCORES, guide=0.0, scale=0.01, done=None, **settings
    ):
        overrides = (f"seed={seed}", *settings.pop("overrides", ()))
        told = Settings(scale, seeds, overrides=overrides, **{"data": "nuclei", **settings})
        graph = build_graph(table_rows("table5", rows), told)
        folders = job_folders(graph, tmp_path / name)
        for key, job in graph.jobs.items():
            finish(job, folders[key], guide)
        for (row, count), key in graph.results.items():
            finish(graph.jobs[key], folders[key], scores[row][seed + count])
        costs = {row: Cost(44_000_000, 250.0, 7.0 if device == GPU else 70.0, (800, 1216)) for row in rows}
        summary = summarize("table5", graph, told, folders, costs, device=device, command="")
        write_report(summary, {}, {}, tmp_path / name / "table5")
        write_plan("table5", graph, told, tmp_path / name, device=device, at_a_time=1)
        for folder in folders.values():
            folder.run.model.unlink()
        for (row, _), key in graph.results.items():
            if done is not None and row not in done:
                folders[key].run.evaluation.unlink()

    return make


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def row(report, name):
    return next(row for row in report["rows"] if row["preset"] == name)


def test_seeds_and_rows_run_apart_are_one_report(run, srfgan, tmp_path):
    run("gpu", "table5_nn", "table5_srf", seeds=2)
    run("cpu", "table5_nn", "table5_srf", seed=2, device=CPU)
    run("more", "table5_nn", "table5_bilinear", overrides=["data.workers=0"])
    before = {name: contents(tmp_path / name) for name in ("gpu", "cpu", "more")}
    folders = [part for name in ("gpu", "cpu", "more", "./gpu") for part in ("--merge", name)]
    done = srfgan("reproduce", "table5", *folders, "--output-dir", "all", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    srf, bilinear = row(report, "table5_srf"), row(report, "table5_bilinear")
    assert srf["measured"]["box"]["AP"]["values"] == [33.0, 34.5, 34.5]
    assert srf["difference"]["box"]["values"] == [3.0, 2.5, 3.5], "each to the baseline of its seed"
    assert bilinear["difference"]["box"]["values"] == [0.5] and bilinear["seeds"] == 1
    assert (list(srf["seconds"]), list(bilinear["seconds"])) == ([GPU, CPU], [GPU])
    assert (srf["cost"]["ms"], bilinear["cost"]["ms"]) == (7.0, None), (
        "times of one folder alone are compared"
    )
    assert len(report["runs"]) == 3 * 4 + 1, "seed 0 of nn, which two folders hold, counts once"
    assert {run["state"] for run in report["runs"]} == {"done"}
    assert [folder["seeds"] for folder in report["merged"]["folders"]] == [[0, 1], [2], [0]]
    assert before == {name: contents(tmp_path / name) for name in before}, "originals stay as they are"
    page = (tmp_path / "all" / "table5" / "report.html").read_text()
    for said in (
        "1 to 3 seeds each",
        "Merged from 3 folders",
        f"1 of 3 seeds on {GPU}",
        f"on {GPU} and {CPU}",
    ):
        assert said in page


def test_a_guide_that_came_out_otherwise_elsewhere_is_another_run(run):
    run("gpu", "table5_nn")
    run("cpu", "table5_srf", guide=29.0)
    graph = merge_runs("table5", [Path("gpu"), Path("cpu")]).graph
    plain, guide = (job.key for job in graph.jobs.values() if job.kind == "finetune" and "-nn-" in job.key)
    assert (graph.rows_of(plain), graph.rows_of(guide)) == (["table5_nn"], ["table5_srf"])
    assert guide == f"{plain}-2"


def test_a_table_that_was_cut_short_gives_what_is_done(run, srfgan):
    run("a", "table5_nn", "table5_srf", seeds=2)
    (unfinished,) = Path("a").glob("jobs/finetune-*-srf-s1-*")
    (unfinished / "evaluation.json").unlink()
    Path("a", "table5", "report.json").unlink()
    merged = merge_runs("table5", [Path("a")])
    assert list(merged.graph.results) == [("table5_nn", 0), ("table5_srf", 0), ("table5_nn", 1)]
    assert merged.read[0].costs == {}


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"[" * 100_000,
        b'{"box": "x"}',
        b'{"box": 1e308}',
        b'{"box": {"AP": []}}',
        b'{"box": {"AP": "x"}}',
    ],
)
def test_a_damaged_score_is_none(run, srfgan, text):
    run("a", "table5_nn", "table5_srf")
    (scored,) = Path("a").glob("jobs/finetune-*-srf-s0-*/evaluation.json")
    scored.write_bytes(text)
    for log in Path("a").glob("jobs/*/metrics.jsonl"):
        log.write_bytes(log.read_bytes() + b"\n" + b"[" * 100_000)
    Path("a", "table5", "report.json").write_text('{"rows": 3}')
    done = srfgan("reproduce", "table5", "--merge", "a", "--output-dir", "all", "--json")
    assert done.code == 0, done.err
    assert [one["preset"] for one in json.loads(done.out)["rows"]] == ["table5_nn"]
    assert f"{scored.relative_to('a')} is damaged, and counts as not scored" in done.err


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plan: plan | {"versions": None},
        lambda plan: plan | {"rows": {"table5_nn": {"x": "y"}}},
        lambda plan: plan | {"rows": {"table5_nn": {"0": "no such run"}}},
        lambda plan: plan | {"runs": 3},
        lambda plan: plan | {"settings": plan["settings"] | {"overrides": 3}},
        lambda plan: 3,
    ],
)
def test_a_damaged_plan_is_named(run, srfgan, spoil):
    run("a", "table5_nn")
    file = Path("a/table5/plan.json")
    file.write_text(json.dumps(spoil(json.loads(file.read_text()))))
    refused = srfgan("reproduce", "table5", "--merge", "a", "--output-dir", "all")
    assert refused.code == 2 and "a/table5/plan.json is damaged" in " ".join(refused.err.split())


def test_an_empty_preset_is_not_one_of_defaults(run, srfgan):
    run("a", "table5_nn")
    (preset,) = Path("a").glob("jobs/*/preset.yaml")
    preset.write_text("")
    refused = srfgan("reproduce", "table5", "--merge", "a", "--output-dir", "all")
    assert refused.code == 2 and f"{preset} is empty" in refused.err and not Path("all").exists()


BOTH = ("--merge", "a", "--merge", "b")


@pytest.mark.parametrize(
    ("of_b", "options", "said"),
    [
        (
            {"seed": 1, "overrides": ["pretrain.solver.lr=0.1"]},
            BOTH,
            [
                "row table5_srf",
                "generator's pretrain.solver.lr is",
                "a/jobs/pretrain-",
                "and 0.1 in b/jobs/pretrain-",
            ],
        ),
        (
            {"seed": 1, "overrides": ["evaluation.max_detections=10"]},
            BOTH,
            ["evaluation.max_detections is its default in a/jobs/", "and 10 in b/jobs/"],
        ),
        (
            {"seed": 1, "data": "coco"},
            BOTH,
            ["other data. It is nuclei in a/table5/plan.json and coco in b/table5/"],
        ),
        (
            {"scores": {"table5_srf": (33.1,)}},
            BOTH,
            [
                "row table5_srf with seed 0 was run twice",
                "evaluation.json and b/jobs/finetune",
                "merge without b",
            ],
        ),
        ({}, ("--merge", "a", "--merge", "nowhere"), ["there is no nowhere/table5/plan.json"]),
        ({}, (*BOTH, "--output-dir", "b"), ["--output-dir b holds runs"]),
        ({}, (*BOTH, "--seeds", "2"), ["--merge runs nothing, and --seeds is for runs"]),
        ({}, (*BOTH, "--rows", "table5_nn"), ["no run that scores a row of table5 is done"]),
    ],
)
def test_what_cannot_be_merged_is_named(run, srfgan, of_b, options, said):
    run("a", "table5_srf")
    run("b", "table5_srf", **of_b)
    refused = srfgan("reproduce", "table5", "--output-dir", "all", *options)
    told = " ".join(refused.err.split())
    assert refused.code == 2 and all(words in told for words in said), refused.err


def test_options_of_rows_that_are_nowhere_together_are_compared(run, srfgan):
    run("a", "table5_srf")
    run("b", "table5_bilinear", overrides=["finetune.solver.lr=0.1", "data.workers=0"])
    refused = srfgan("reproduce", "table5", *BOTH, "--output-dir", "all")
    told = " ".join(refused.err.split())
    assert refused.code == 2 and "finetune.solver.lr is not given in a/table5/plan.json and 0.1 in b/" in told


NN, SRF, BILINEAR = "table5_nn", "table5_srf", "table5_bilinear"


@pytest.mark.parametrize(
    ("rows", "of_b", "said"),
    [
        (
            (NN, SRF),
            {"done": [SRF], "scale": 0.1},
            "scale is 0.01 in a/table5/plan.json and 0.1 in b/table5/",
        ),
        (
            (NN, SRF),
            {"done": [SRF], "data": "coco"},
            "other data. It is nuclei in a/table5/plan.json and coco",
        ),
        (
            (NN, SRF),
            {"done": [SRF], "overrides": ["sync_bn=true"]},
            "sync_bn is not given in a/table5/plan.json",
        ),
        ((NN, BILINEAR), {"scale": 0.1}, "row table5_nn was not run alike: finetune.solver.iterations is"),
    ],
)
def test_rows_that_are_planned_or_left_out_tell_nothing_of_those_that_are_done(run, srfgan, rows, of_b, said):
    run("a", NN, SRF, done=None if BILINEAR in rows else [NN])
    run("b", *rows, **of_b)
    asked = ("--rows", f"{SRF},{BILINEAR}") if BILINEAR in rows else ()
    refused = srfgan("reproduce", "table5", *BOTH, *asked, "--output-dir", "all")
    assert refused.code == 2 and said in " ".join(refused.err.split()), refused.err


def test_where_nothing_is_done_nothing_is_compared(run):
    run("a", NN, SRF)
    run("b", BILINEAR, scale=0.1, data="coco", done=[])
    assert merge_runs("table5", [Path("a"), Path("b")]).missing == [BILINEAR]


@pytest.mark.parametrize(("lr", "said"), [(0.1, "the overlay's finetune.solver.lr is 0.2 in a/"), (0.2, "")])
def test_overlays_are_compared_by_what_they_say(run, srfgan, lr, said):
    for name, value in (("ov1/o", 0.2), ("ov2/o" if said else "ov2/same", lr)):
        Path(name).parent.mkdir()
        free = len(name)
        Path(f"{name}.yaml").write_text(
            f"seed: {free}\nfinetune: {{solver: {{lr: {value}, log_every: {free}}}}}"
        )
    run("a", NN, overlay="ov1/o.yaml")
    run("b", BILINEAR, overlay=f"{name}.yaml")
    merged = srfgan("reproduce", "table5", *BOTH, "--output-dir", "all")
    assert merged.code == (2 if said else 0) and said in " ".join(merged.err.split()), merged.err


def test_overlays_of_a_version_that_wrote_only_their_names_are_compared_by_these(run):
    for place, row, name in (("a", NN, "o"), ("b", BILINEAR, "o"), ("c", SRF, "other")):
        Path(f"{name}.yaml").write_text("finetune: {reuse: none}")
        run(place, row, overlay=f"{name}.yaml")
        file = Path(place, "table5", "plan.json")
        plan = json.loads(file.read_text())
        assert plan.pop("overlay") == {"finetune.reuse": "none"}
        file.write_text(json.dumps(plan))
    merge_runs("table5", [Path("a"), Path("b")])
    with pytest.raises(InputError, match=r"overlay is o.yaml in a/.* and other.yaml in c/"):
        merge_runs("table5", [Path("a"), Path("c")])
