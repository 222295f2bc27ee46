"""The graph of runs that a table needs: what is shared, what is not, and what a run is known by."""

import pytest

from srfgan.models.errors import InputError
from srfgan_cli.presets.config import DataConfig
from srfgan_cli.presets.library import dump_yaml, load_preset
from srfgan_cli.presets.tables import load_tables
from srfgan_cli.reproduction.budget import images_seen
from srfgan_cli.reproduction.cost import job_gmacs
from srfgan_cli.reproduction.graph import Graph, Job, Settings, build_graph, scaled, scored_job
from srfgan_cli.reproduction.identity import data_identity
from srfgan_cli.reproduction.jobs import JobFolder, Machine, command
from srfgan_cli.reproduction.rows import baseline_of, table_rows
from srfgan_cli.runs.folder import Run


def graph_of(table, only=(), **settings):
    return build_graph(table_rows(table, only), Settings(**settings))


def kinds(graph):
    return [job.kind for job in graph.jobs.values()]


def test_rows_share_the_stages_they_have_in_common():
    graph = graph_of("table1")
    # Eleven target detectors, and one generator and one extractor for all seven rows of the method.
    assert kinds(graph).count("finetune") == 11
    assert (kinds(graph).count("pretrain"), kinds(graph).count("extract")) == (1, 1)
    plain = graph.results["mask_rcnn_r50_fpn_nn", 0]
    (pretrain,) = [job for job in graph.jobs.values() if job.kind == "pretrain"]
    (extract,) = [job for job in graph.jobs.values() if job.kind == "extract"]
    assert pretrain.sources == {"guide": plain}
    assert extract.sources == {"guide": plain, "generator": pretrain.key}
    whole = graph.jobs[graph.results["retinanet_r50_fpn", 0]]
    assert whole.sources == {"extractor": extract.key}
    assert [job.kind for job in graph.ancestors(whole.key)] == ["finetune", "pretrain", "extract", "finetune"]
    assert "retinanet_r50_fpn" in graph.rows_of(pretrain.key)
    assert "retinanet_r50_fpn_nn" not in graph.rows_of(plain)


def test_a_detector_that_is_continued_rests_on_the_plain_one():
    rows = ["upsamplers_nn", "upsamplers_nn_continued", "upsamplers_srf_g", "upsamplers_srf_continued"]
    graph = graph_of("upsamplers", rows)
    plain, longer, generator, both = (graph.first(row) for row in rows)
    assert kinds(graph) == ["finetune", "pretrain", "finetune", "finetune", "finetune"]
    assert graph.jobs[longer].sources == {"weights": plain}
    assert graph.jobs[both].sources == {"weights": plain, **graph.jobs[generator].sources}
    assert images_seen(graph.jobs[longer], graph) == {
        "last_stage": 1_440_000,
        "stages_1_and_2": 0,
        "guide": 1_440_000,
    }


def test_two_names_for_one_experiment_are_one_run_in_every_table():
    first, other = graph_of("table1"), graph_of("table5")
    assert first.results["mask_rcnn_r50_fpn_nn", 0] == other.results["table5_nn", 0]
    assert first.results["mask_rcnn_r50_fpn", 0] == other.results["table5_srf", 0]
    assert other.results["table5_nn", 0] != other.results["table5_bilinear", 0]


def test_a_run_that_one_table_began_goes_on_in_another(tmp_path):
    job = next(iter(graph_of("table1", ["mask_rcnn_r50_fpn_nn"]).jobs.values()))
    same = graph_of("table5", ["table5_nn"], overrides=["data.workers=0"], evaluations=2).jobs[job.key]
    assert same.config.name != job.config.name
    run = Run(tmp_path)
    run.config.write_text(dump_yaml(job.config))
    run.checkpoint.touch()
    folder = JobFolder(tmp_path)
    assert "--resume" in command(same, {job.key: folder}, Machine())
    resumed = load_preset(folder.preset)
    run.check_same(resumed)  # refuses a config that differs
    assert resumed.data.workers == 0 and resumed.finetune.solver.evaluate_every == 45_000


@pytest.mark.parametrize("table", load_tables())
def test_every_table_has_a_graph_in_an_order_that_can_run(table):
    graph = graph_of(table, scale=0.01, seeds=2, unlabeled="some")
    done = set()
    for key, job in graph.jobs.items():
        assert set(job.sources.values()) <= done
        done.add(key)
    assert len(graph.results) == 2 * len(table_rows(table))
    assert set(graph.results.values()) <= done
    assert not {graph.results[row, 0] for row, _ in graph.results} & {
        graph.results[row, 1] for row, _ in graph.results
    }


def test_what_does_not_decide_the_result_does_not_make_another_run():
    key = graph_of("table5", ["table5_srf"]).results["table5_srf", 0]

    def key_with(*overrides, **more):
        return graph_of("table5", ["table5_srf"], overrides=overrides, **more).results["table5_srf", 0]

    assert (
        key_with(
            "data.workers=0",
            "evaluation.batch_size=8",
            "finetune.solver.log_every=1",
            "extract.solver.checkpoint_every=7",
        )
        == key
    )
    assert key_with(evaluations=5) == key
    for override in ("pretrain.adversarial.weight=0.1", "discriminator.kernel=3", "data.flip=0.0", "seed=3"):
        assert key_with(override) != key, override
    assert key_with(scale=0.5) != key
    assert key_with(data="another set") != key
    patient = ("finetune.solver.patience=2", "finetune.solver.evaluate_every=1")
    ends = {key_with(*patient, evaluations=count) for count in (5, 5, 10)}
    assert len(ends) == 2, "with patience, how often a detector is scored decides where its training ends"


@pytest.mark.parametrize(
    ("overrides", "iterations"), [((), 270_000), (("sources.guide=mask_rcnn_r50_fpn_nn",), 90_000)]
)
def test_the_guide_that_a_recipe_names_is_trained(overrides, iterations):
    """The published recipe's is the one of 37 epochs; both stages before the last one rest on it."""
    graph = graph_of("afigan_repository", ["mask_rcnn_r50_fpn_afi"], overrides=overrides)
    guide, pretrain, extract, _ = graph.jobs.values()
    assert (guide.kind, guide.config.model.neck.upsampler, guide.solver.iterations) == (
        "finetune",
        "nn",
        iterations,
    )
    assert pretrain.sources["guide"] == extract.sources["guide"] == guide.key


def test_a_multi_scale_row_scores_the_detector_of_the_plain_row_once_more():
    graph = graph_of("srfgan_repository", ["cascade_s101_pafpn", "cascade_s101_pafpn_tta"])
    plain, several = (graph.results[row, 0] for row in ("cascade_s101_pafpn", "cascade_s101_pafpn_tta"))
    assert (graph.jobs[several].kind, graph.jobs[several].sources) == ("eval", {"weights": plain})
    assert graph.jobs[several].config.evaluation.tta.enabled and graph.jobs[several].images == 0


@pytest.mark.parametrize(
    "override",
    ["evaluation.max_detections=10", "evaluation.tta.enabled=true", "model.inference.nms_iou=0.4"],
)
def test_another_scoring_makes_no_other_training(override):
    """A training that begins is scored as the settings say; one that is done otherwise is scored once more."""
    plain = graph_of("table5", ["table5_nn"])
    (key,) = plain.jobs
    done = {key: plain.jobs[key].config}
    rows, settings = table_rows("table5", ["table5_nn"]), Settings(overrides=(override,))
    fresh = build_graph(rows, settings)
    assert list(fresh.jobs) == [key] and fresh.results == plain.results
    config = fresh.jobs[key].config
    assert config != done[key]
    assert build_graph(rows, settings, {key: config}.get).results == plain.results

    training, evaluation = build_graph(rows, settings, done.get).jobs.values()
    assert training.key == key == evaluation.sources["weights"] and evaluation.kind == "eval"
    assert (evaluation.config.evaluation, evaluation.config.model) == (config.evaluation, config.model)
    together = Settings(overrides=("evaluation.batch_size=8",))
    assert build_graph(rows, together, done.get).results == plain.results, "scored as before"
    back = build_graph(rows, Settings(), {key: config}.get)
    assert back.results["table5_nn", 0] not in (key, evaluation.key), "nor is it the preset's own scoring"


@pytest.mark.parametrize("override", ["evaluation.max_detections=10", "model.inference.nms_iou=0.4"])
def test_a_scoring_that_decides_where_a_training_ends_makes_another(override):
    waits = ("finetune.solver.patience=3", "finetune.solver.evaluate_every=100")
    keys = {
        key
        for more in ((), (override,), ("evaluation.batch_size=8",), ("evaluation.tta.enabled=true",))
        for key, job in graph_of("table5", ["table5_nn"], overrides=(*waits, *more)).jobs.items()
        if job.kind == "finetune"
    }
    assert len(keys) == 2, "scores on the way are at one scale, in batches of any size"


def test_a_detector_scored_at_another_size_is_scored_once_more():
    """The preset that only evaluates trains nothing, and has not the score of the one that it takes the detector of."""
    plain = load_preset("mask_rcnn_r50_fpn_nn")
    larger = load_preset(
        "mask_rcnn_r50_fpn_nn", ["data.test_short_side=1000", f"sources.detector={plain.name}"]
    )
    graph = Graph([], loaded={plain.name: plain, "larger": larger})
    trained, scored = (scored_job(graph, name, 0, Settings()) for name in (plain.name, "larger"))
    assert graph.jobs[scored].sources == {"weights": trained}
    assert graph.jobs[scored].config.data.test_short_side == 1000


def test_nms_decides_what_centermask_trains_on():
    def trainings(*overrides):
        graph = graph_of("srfgan_repository", ["centermask_r50_bifpn_nn"], overrides=overrides)
        return {key: job.config.model.inference.nms_iou for key, job in graph.jobs.items() if job.solver}

    assert list(trainings().values()) == [0.6]
    assert list(trainings("model.inference.nms_iou=0.4").values()) == [0.4]
    assert trainings().keys() != trainings("model.inference.nms_iou=0.4").keys()


def test_tables_6_and_7_vary_only_their_stages_1_and_2():
    graph = graph_of("table6")
    assert [kinds(graph).count(kind) for kind in ("pretrain", "extract", "finetune")] == [3, 3, 4]
    graph = graph_of("table7")
    assert [kinds(graph).count(kind) for kind in ("pretrain", "extract", "finetune")] == [1, 2, 3]


def test_how_a_small_generator_learns_is_not_said_of_the_one_that_it_learns_from():
    row = ["upsamplers_srf_thin_distilled"]
    usual = graph_of("upsamplers", row)
    tuned = graph_of("upsamplers", row, overrides=["pretrain.distill.weight=0.5"])
    small, same = (
        next(job for job in graph.jobs.values() if "distill" in job.sources) for graph in (tuned, usual)
    )
    assert small.config.pretrain.distill.weight == 0.5 and small.key != same.key
    assert small.sources == same.sources, "the larger one is the same run"


@pytest.mark.parametrize(
    ("row", "override", "said"),
    [
        (
            "upsamplers_srf",
            "pretrain.distill.weight=0.5",
            r"Preset 'upsamplers_srf' learns .* names none: give it with --set sources\.distill=PRESET\.",
        ),
        (
            "upsamplers_srf",
            "sources.guide=upsamplers_srf",
            r"in a circle: finetune of upsamplers_srf -> extract of upsamplers_srf -> finetune of upsamplers_srf\.",
        ),
    ],
)
def test_a_run_that_rests_on_itself_is_named(row, override, said):
    with pytest.raises(InputError, match=said):
        graph_of("upsamplers", [row], overrides=[override])


def test_self_training_rows_are_taught_by_their_own_recipe_without_pseudo_labels():
    row = "cascade_rcnn_swin_t_bifpn"
    graph = graph_of("afigan_repository", [row], unlabeled="unlabeled2017 123403")
    student = graph.jobs[graph.results[row, 0]]
    teacher = graph.jobs[student.sources["teacher"]]
    assert teacher.config.finetune.self_training is None and student.config.finetune.self_training is not None
    assert teacher.sources == {"extractor": student.sources["extractor"]} and teacher.kind == "finetune"
    nms = ["model.inference.nms_iou=0.4"]
    other = graph_of("afigan_repository", [row], unlabeled="unlabeled2017 123403", overrides=nms)
    first, *taught = graph.jobs
    assert first in other.jobs and not set(taught) & set(other.jobs), "a teacher's NMS decides what it labels"
    with pytest.raises(
        InputError, match=r"Row cascade_rcnn_swin_t_bifpn.* trains with pseudo-labels: name images"
    ):
        graph_of("afigan_repository", [row])


def test_scaling_shrinks_every_schedule_alike():
    config = scaled(load_preset("mask_rcnn_r50_fpn"), Settings(scale=0.01, evaluations=3), seed=2)
    assert config.seed == 2
    solvers = {name: getattr(config, name).solver for name in ("pretrain", "extract", "finetune")}
    assert {name: solver.iterations for name, solver in solvers.items()} == {
        "pretrain": 1500,
        "extract": 2700,
        "finetune": 900,
    }
    assert solvers["finetune"].milestones == [600, 800] and solvers["finetune"].warmup_iterations == 10
    assert solvers["finetune"].evaluate_every == 300 and solvers["extract"].evaluate_every == 0
    without = scaled(load_preset("table4_a3"), Settings(scale=0.01, evaluations=3), seed=0)
    assert without.extract.solver.evaluate_every == 900, "its last stage"
    assert all(solver.checkpoint_every <= solver.iterations // 10 for solver in solvers.values())


def test_an_overlay_changes_every_row_but_not_what_the_rows_differ_in():
    graph = graph_of("upsamplers", overlay="small")
    found = {row: graph.jobs[graph.results[row, 0]].config for row, _ in graph.results}
    assert {config.model.backbone.name for config in found.values()} == {"r18"}
    assert found["upsamplers_carafe"].model.neck.upsampler == "carafe"
    assert found["upsamplers_nn"].model.neck.upsampler == "nn"
    l1 = [job for job in graph.ancestors(graph.results["upsamplers_srf_l1", 0]) if job.kind == "pretrain"]
    assert l1[0].config.pretrain.adversarial.weight == 0


@pytest.mark.parametrize("settings", [{}, {"scale": 0.1}, {"overlay": "small", "scale": 0.5}])
def test_the_long_plain_row_sees_as_many_images_as_all_stages_of_srf(settings):
    graph = graph_of("upsamplers", ["upsamplers_nn", "upsamplers_nn_long", "upsamplers_srf"], **settings)
    whole = graph.ancestors(graph.results["upsamplers_srf", 0])
    stages = [job for job in whole if job.key != graph.results["upsamplers_nn", 0]]
    assert [job.kind for job in stages] == ["pretrain", "extract", "finetune"]
    long, plain = (graph.jobs[graph.results[row, 0]] for row in ("upsamplers_nn_long", "upsamplers_nn"))
    assert long.images == pytest.approx(sum(job.images for job in stages), rel=0.01)
    share = [m / long.solver.iterations for m in long.solver.milestones]
    assert share == pytest.approx([m / plain.solver.iterations for m in plain.solver.milestones], abs=0.01)


def test_rows_are_compared_with_the_plain_detector_like_them():
    def baselines(table):
        rows = table_rows(table)
        return {row.preset: found and found.preset for row in rows for found in [baseline_of(row, rows)]}

    first = baselines("table1")
    assert first["retinanet_r50_fpn"] == "retinanet_r50_fpn_nn"
    assert first["mask_rcnn_r50_fpn_3x"] == "mask_rcnn_r50_fpn_nn_3x"
    assert first["mask_rcnn_r50_fpn_nn"] is None
    assert baselines("table6")["table6_nn"] == "table6_bilinear"
    upsamplers = baselines("upsamplers")
    assert (
        upsamplers.pop("upsamplers_nn") is None and upsamplers["upsamplers_nn_continued"] == "upsamplers_nn"
    )
    continued = {name for name, baseline in upsamplers.items() if baseline == "upsamplers_nn_continued"}
    assert continued == {
        f"upsamplers_{name}_continued" for name in ("dysample", "srf", "srf_scratch")
    }  # which have all seen as many images
    assert set(upsamplers.values()) == {"upsamplers_nn", "upsamplers_nn_continued"}
    assert baselines("table2")["cascade_s101_fpn_srf"] == "cascade_s101_fpn_nn"
    assert baselines("table2")["cascade_s101_fpn_srf_tta"] is None, (
        "many scales against one compare no pyramids"
    )
    enhanced = baselines("feature_enhancement")
    assert list(enhanced.values()) == [None, next(iter(enhanced))]


def test_every_row_of_our_table_has_a_cost():
    """Spectral norms in the discriminator among them, by which a dry run of the table ended in an error."""
    graph = build_graph(table_rows("upsamplers", ["upsamplers_srf_spectral"]), Settings(overlay="demo"))
    costs = {job.kind: job_gmacs(job) for job in graph.jobs.values()}
    assert costs["pretrain"] > 0 and costs["finetune"] > 0


def test_mistakes_are_named(tmp_path):
    with pytest.raises(InputError, match=r"There is no table 'table9'. Tables: table1"):
        table_rows("table9")
    with pytest.raises(InputError, match=r"--rows: table5 has no row 'x'. Its rows: .*table5_nn"):
        table_rows("table5", ["x"])
    with pytest.raises(InputError, match=r"Row table5_srf cannot be run with these settings.*unknown key"):
        graph_of("table5", ["table5_srf"], overrides=["model.nek.channels=8"])
    with pytest.raises(InputError, match=r"would not be used: data\.dataset is the built-in shapes"):
        data_identity(DataConfig(dataset="shapes"), tmp_path)
    with pytest.raises(InputError, match="no data: give --data-root"):
        data_identity(DataConfig(), None)
    with pytest.raises(InputError, match="not in COCO layout"):
        data_identity(DataConfig(), tmp_path)


def test_a_run_on_a_backbone_of_timms_has_one_folder():
    backbone = "model.backbone.name=timm/mobilenetv3_small_050"
    (key,) = graph_of("table5", ["table5_nn"], overrides=[backbone]).jobs
    assert "timm-mobilenetv3_small_050" in key and "/" not in key


def test_the_cost_of_stages_1_and_2_follows_what_they_compare():
    """Nearly all of it is the discriminator's; with different levels, stage 2 sees whole images."""

    def costs(*overrides):
        config = load_preset("mask_rcnn_r50_fpn", overrides)
        return [job_gmacs(Job(stage, stage, config, {})) for stage in ("pretrain", "extract")]

    pretrain, extract = costs()
    windows = costs("pretrain.adversarial.window=16", "extract.adversarial.window=16")
    assert windows[0] < 0.15 * pretrain and windows[1] < 0.25 * extract
    unjudged = costs("pretrain.adversarial.weight=0", "extract.adversarial.weight=0")
    assert 0 < unjudged[0] < windows[0] and 0 < unjudged[1] < windows[1]
    assert costs("extract.adversarial.levels=[p5]")[1] < 0.25 * extract
    different = costs("extract.pairing=different", "extract.adversarial.levels=[p2,p3,p4]")
    assert different[0] == pretrain and 3.5 * extract < different[1] < 4.5 * extract
