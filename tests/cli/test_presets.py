"""Presets: every one loads and survives being written; mistakes are named. Their numbers: test_tables.py."""

import json
import os
import shlex

import pytest

from models.errors import InputError
from srfgan_cli.presets.digest import row_line, summary_lines
from srfgan_cli.presets.library import PRESETS_DIR, dump_yaml, list_presets, load_preset


@pytest.mark.parametrize("name", list_presets())
def test_preset_survives_a_round_trip(name, tmp_path):
    config = load_preset(name)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert load_preset(tmp_path / "config.yaml") == config
    (file,) = PRESETS_DIR.rglob(f"{name}.yaml")
    head = file.read_text().splitlines()
    assert head[0].startswith("# ") and f"--preset {name}" in head[1], (
        "the header names the row and the command"
    )


def header(name):
    """The command that a preset's header gives, and what it says to change."""
    (file,) = PRESETS_DIR.rglob(f"{name}.yaml")
    _, run, change = [
        line.partition(": ")[2].partition("  (")[0].strip() for line in file.read_text().splitlines()[:3]
    ]
    return shlex.split(run), shlex.split(change)


@pytest.fixture
def placeholders(tmp_path, monkeypatch):
    """The folders that headers name, and no measuring of this machine."""
    for root in ("COCO", "NUCLEI"):
        for split in ("train", "val"):
            (tmp_path / root / f"{split}2017").mkdir(parents=True)
            annotations = tmp_path / root / "annotations" / f"instances_{split}2017.json"
            annotations.parent.mkdir(exist_ok=True)
            annotations.write_text("{}")
    monkeypatch.setattr("srfgan_cli.reproduction.dry_run.job_gmacs", lambda job: 1.0)
    monkeypatch.setattr("srfgan_cli.reproduction.dry_run.hours", lambda *_: 1.0)


def test_every_headers_commands_work(srfgan, placeholders):
    reproductions = set()
    for name in list_presets():
        (_, command, *options), change = header(name)
        if change[0] == "srfgan":
            reproductions.add(tuple(change[1:]))
            change = []
        if command == "reproduce":
            reproductions.add((command, *options))
        elif command == "eval":
            # It has no --dry-run: it gets as far as the data that are not there.
            done = srfgan(command, *options, *change, "--devices", "cpu")
            assert done.code == 2 and "instances_val2017.json: 'images' must be a list" in done.err, done.err
        else:
            done = srfgan(command, *options, *change, "--dry-run", "--json")
            assert done.code == 0, (name, done.err)
            solver = json.loads(done.out)["config"][command]["solver"]
            assert max([solver["warmup_iterations"], *solver["milestones"]]) < solver["iterations"], name
    for command in reproductions:
        data = [] if "--data-root" in command else ["--data-root", "COCO"]
        done = srfgan(*command, *data, "--dry-run", "--json", "--devices", "cpu")
        assert done.code == 0 and json.loads(done.out), (command, done.err)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["iterations=1000"], "a warm-up of 1000 and milestones 60000, 80000 in 1000 iterations"),
        (["iterations=70000"], "milestones 80000 in 70000 iterations"),
        (["milestones=[60000, 90000]"], "milestones 90000 in 90000 iterations"),
        (["iterations=9", "milestones=[5]"], "a warm-up of 1000 in 9 iterations"),
    ],
)
def test_a_schedule_that_does_not_come_to_pass_is_refused(settings, named, srfgan):
    options = [part for one in settings for part in ("--set", f"finetune.solver.{one}")]
    for command in (
        ["finetune", "--preset", "mask_rcnn_r50_fpn_nn"],
        ["reproduce", "table5", "--rows", "table5_nn", "--dataset", "shapes"],
    ):
        done = srfgan(*command, *options, "--dry-run")
        assert done.code == 2 and f"has {named}." in done.err and "--iterations" in done.err


def test_any_length_of_a_stage_keeps_its_schedule_inside():
    solver = load_preset("mask_rcnn_r50_fpn").finetune.solver
    late = solver.model_copy(update={"warmup_iterations": solver.iterations - 1})
    for iterations in (1, 2, 3, 100, 12_345, 10**6):
        assert solver.shortened(iterations).misfit is None and late.shortened(iterations).misfit is None


def test_the_papers_schedules():
    config = load_preset("mask_rcnn_r50_fpn")
    assert (config.pretrain.solver.iterations, config.pretrain.solver.lr) == (150_000, 0.001)
    assert (config.extract.solver.iterations, config.extract.solver.milestones) == (
        270_000,
        [210_000, 250_000],
    )
    assert (config.finetune.solver.iterations, config.finetune.solver.scaled_lr) == (90_000, 0.02)
    assert load_preset("mask_rcnn_r50_fpn_3x").finetune.solver.milestones == [210_000, 250_000]
    assert load_preset("table4_a4").finetune.freeze_generator
    assert load_preset("table4_a3").stages == ["pretrain", "extract"]
    assert load_preset("table7_different").extract.pairing == "different"
    assert load_preset("table6_nn").data.degradation == "nn"


def test_the_repositories_pafpn_rows():
    rows = {
        "": (12, 40.9, 36.9),
        "_3x": (37, 43.0, 38.5),
        "_nn": (12, 39.0, 35.6),
        "_nn_3x": (37, 41.4, 37.6),
    }
    for ending, (epochs, box, mask) in rows.items():
        config = load_preset(f"mask_rcnn_r50_pafpn{ending}")
        row = config.references[0]
        assert (row.document, row.split, row.epochs) == ("srfgan_repository", "test-dev", epochs)
        printed = [row.box.AP, row.mask.AP]
        assert printed == [box, mask]
        assert config.finetune.solver.iterations == (90_000 if epochs == 12 else 270_000)
        plain = ending.startswith("_nn")
        assert (config.model.neck.name, config.model.neck.upsampler) == ("pafpn", "nn" if plain else "afi")
        assert all(ref.weights is not None for ref in config.references[1:] or [row])
    published = load_preset("mask_rcnn_r50_pafpn_3x")
    assert published.discriminator.kernel == 3 and published.finetune.reuse == "G"
    assert (published.pretrain.solver.iterations, published.extract.solver.scaled_lr) == (300_000, 0.01)
    assert published.extract.start_from_guide and published.extract.reduction == "nn"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.neck.upsampeler=afi", "unknown key 'model.neck.upsampeler'. Did you mean 'upsampler'?"),
        (
            "model.neck.upsampler=affi",
            "model.neck.upsampler: 'affi' is not one of 'nn', 'bilinear', 'bicubic'",
        ),
        ("finetune.solver.lr=fast", "finetune.solver.lr: Input should be a valid number, got 'fast'."),
        ("finetune.solver.lr=-1", "finetune.solver.lr: Input should be greater than 0, got -1."),
        ("finetune.solver.milestones=[3, 2]", "milestones must be positive and increasing, got [3, 2]"),
        ("extract.adversarial.levels=[p9]", "extract.adversarial.levels.0: 'p9' is not one of 'p2'"),
        ("model.cascade.ious=[0.5]", "cascade needs as many ious as weights, got 1 and 3"),
        ("model.anchors.sizes=[8]", "anchors.sizes needs one size for each of p2..p6 (5), got 1"),
        (
            "model.detector=retinanet",
            "Preset 'mask_rcnn_r50_fpn': pretrain.adversarial.levels: the neck of retinanet gives p3, p4, p5, p6, p7,",
        ),
        (
            "model.detector=fcos",
            "pretrain.adversarial.levels: the neck of fcos gives p3, p4, p5, p6, p7, got p2.",
        ),
        (
            "evaluation.max_detections=400",
            "counts 400 detections per image, but model.inference.detections_per_image got",
        ),
        (
            "finetune.feature_enhancement={l2: 1e-5, variances: 1.0}",
            "unknown key 'finetune.feature_enhancement.variances'. Did you mean 'variance'?",
        ),
        (
            "finetune.feature_enhancement={l2: 1e-5}\nmodel.backbone.freeze_at=3",
            "feature_enhancement trains res3, but model.backbone.freeze_at freezes it, got 3",
        ),
        ("data=shapes", "data: Input should be a valid dictionary"),
        (
            "model.pixel.std=[1.0, 0, 1.0]",
            "model.pixel.std.1: Input should be greater than or equal to 0.001, got 0",
        ),
        ("finetune.solver.lr=.nan", "finetune.solver.lr: Input should be a finite number, got nan"),
        (
            "model.anchors.sizes=[8, 16, 32, 64, .inf]",
            "model.anchors.sizes.4: Input should be a finite number",
        ),
        ("seed=1e12", "seed: Input should be a valid integer, got 1000000000000.0"),
        ("model.num_classes=0", "model.num_classes: Input should be greater than or equal to 1, got 0"),
        (
            "model.neck.channels=1000000000000",
            "model.neck.channels: Input should be less than or equal to 8192",
        ),
        (
            "data.short_sides=[800, 0]",
            "data.short_sides.1: Input should be greater than or equal to 32, got 0",
        ),
        ("data.short_sides=[]", "data.short_sides: List should have at least 1 item"),
        ("seed=2024-01-01", "seed: Input should be a valid integer, got '2024-01-01'"),
        (f"seed={'9' * 5000}", "not valid YAML"),
        (
            f"seed=0x{'f' * 5000}",
            "seed: Input should be less than or equal to 4294967295, got a number of thousands",
        ),
        (f"seed={'[' * 9000}", "nested too deeply"),
        ("seed=&a [*a]", "*a: aliases are not read here"),
        ("seed=!!python/name:os.system", "not valid YAML"),
        ("nothing", "--set nothing: expected KEY=VALUE"),
        ("model.detector.x=3", "--set model.detector.x=3: 'model.detector' is a value, not a section."),
    ],
)
def test_a_wrong_override_is_explained(override, message):
    with pytest.raises(InputError) as error:
        load_preset("mask_rcnn_r50_fpn", override.split("\n"))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "line 2: not valid YAML"),
        ("- 1", "a preset is a mapping of keys to values, not a list."),
        ("seed: 1\nseed: 2", "key 'seed' is given twice"),
        ("base: mask_rcnn_r50_fnp", "Did you mean 'mask_rcnn_r50_fpn'"),
        ("base: own.yaml", "own.yaml: base: preset inheritance runs in a circle: own -> own."),
        ("extra: 1", "unknown key 'extra'"),
        ("base: 3", "base: expected a preset's name or a list of names, got 3."),
        ("base:", "base: expected a preset's name or a list of names, got None."),
        ("base: [demo, [small]]", "got ['demo', ['small']]."),
        ("base: ./own.yaml", "base: preset inheritance runs in a circle: own -> own."),
        ("base: other.yaml", "circle: own -> own."),
        ("1: 2", "line 1: not valid YAML: key '1' is no text; quote it."),
        ("seed: 1\n---\nseed: 2", "expected a single document"),
        ("a: &a [1]\nb: *a", "line 2: not valid YAML: *a: aliases are not read here; write the value out."),
        (f"seed: {[1] * 100_000}", "a preset has at most 200000 bytes"),
        (f"data: {{short_sides: {['x'] * 999}}}", "\n... and 989 more."),
        ("seed: \0", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_explained(text, message, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(text)
    (tmp_path / "other.yaml").symlink_to(own)
    with pytest.raises(InputError) as error:
        load_preset(own)
    assert message in str(error.value) and str(error.value).startswith(f"{tmp_path}/")


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: None]
)
def test_what_is_no_file_is_no_preset(make, tmp_path, srfgan):
    make(tmp_path / "own.yaml")
    for command in (
        ["presets", "show"],
        ["finetune", "--dry-run", "--preset"],
        ["reproduce", "table5", "--overlay"],
    ):
        done = srfgan(*command, "own.yaml")
        assert done.code == 2 and "own.yaml" in done.err
    long = srfgan("presets", "show", "x" * 300 + ".yaml")
    assert long.code == 2 and "File name too long" in long.err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_in_any_unicode_encoding_is_read(encoding, tmp_path):
    (tmp_path / "own.yaml").write_text("description: é 猫 2024-01-01\nseed: 3", encoding=encoding)
    assert load_preset(tmp_path / "own.yaml").description == "é 猫 2024-01-01"


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/b", "a\\b", ".", "..", "", " ", "a\0b", "a\x1b[31m", "a\nb", "x" * 201, "猫" * 70],
)
def test_a_name_stays_inside_the_folder_of_runs(name, tmp_path):
    for key in ("name", "sources.guide", "sources.detector"):
        with pytest.raises(InputError, match=rf"{key}: a preset's name names folders"):
            load_preset("demo", [f"{key}={json.dumps(name)}"])
    assert load_preset("demo", ["name='[red] é 猫.'"]).name == "[red] é 猫."


def test_the_published_recipe_can_be_put_over_a_paper_preset(tmp_path):
    (tmp_path / "own.yaml").write_text("base: [mask_rcnn_r50_fpn, repository]\n")
    paper, published = load_preset("mask_rcnn_r50_fpn"), load_preset(tmp_path / "own.yaml")
    assert (paper.model.neck.upsampler, paper.finetune.reuse, paper.extract.start_from_guide) == (
        "srf",
        "M",
        False,
    )
    assert (published.model.neck.upsampler, published.finetune.reuse) == ("afi", "G")
    assert published.extract.start_from_guide and published.extract.solver.iterations == 180_000


def test_a_users_file_builds_on_a_preset(tmp_path):
    (tmp_path / "own.yaml").write_text("base: mask_rcnn_r50_fpn\nfinetune: {solver: {lr: 1e-3}}\n")
    config = load_preset(tmp_path / "own.yaml")
    assert (config.name, config.finetune.solver.lr, config.references) == ("own", 1e-3, [])
    assert config.finetune.solver.milestones == [60_000, 80_000]


def test_the_list_of_presets(srfgan):
    listed = json.loads(srfgan("presets", "list", "--table", "table5", "--json").out)
    assert [(row["preset"], row["box"], row["mask"]) for row in listed] == [
        ("table5_bilinear", 38.6, 35.2),
        ("table5_nn", 38.6, 35.2),
        ("table5_bicubic", 38.5, 35.1),
        ("table5_srf", 41.2, 37.0),
    ]
    # One preset in several tables, with each table's own numbers.
    rows = [
        row
        for row in json.loads(srfgan("presets", "list", "--json").out)
        if row["preset"] == "mask_rcnn_r50_fpn"
    ]
    assert [(row["table"], row["box"]) for row in rows] == [
        ("table1", 41.2),
        ("table2", 41.5),
        ("table3", 41.2),
    ]
    assert rows[1]["reference"]["box"]["AP50"] == 62.0
    shown = srfgan("presets", "list").out.splitlines()
    assert {
        name for name in list_presets() if not any(line.startswith(f"{name} ") for line in shown)
    } == set()
    (row,) = [line.rstrip() for line in shown if line.startswith("table5_srf ")]
    assert row.endswith("Mask R-CNN R-50-FPN, srf in the top-down path"), (
        "a row is a line where no terminal ends"
    )
    of_table3 = srfgan("presets", "list", "--table", "table3").out
    assert "SRF-GAN paper" in of_table3 and "40.0  36.2" in of_table3 and "table4" not in of_table3
    assert "There is no table 'table9'. Tables: table1," in srfgan("presets", "list", "--table", "table9").err


def test_what_a_preset_amounts_to(srfgan):
    shown = srfgan("presets", "show", "retinanet_r50_fpn").out
    comments = [line.removeprefix("# ") for line in shown.splitlines() if line.startswith("#")]
    assert comments == [
        "RetinaNet R-50-FPN, SRF, whole extractor reused (M), 12 epochs",
        "parameters: 47.4 M",
        "GMACs at 800x1216: 268.2 (backbone 74.8, neck 62.5, head 130.9), with as many boxes as the config allows",
        "stage 1, pretrain: that of mask_rcnn_r50_fpn",
        "stage 2, extract: that of mask_rcnn_r50_fpn",
        "stage 3, finetune: 90,000 iterations of 16 = 1,440,000 images, 12.3 epochs; sgd, lr 0.01, "
        "x0.1 at 60,000, 80,000",
        "srfgan_paper, table1 (val2017): box AP 39.6, APs 24.7, APm 44.0, APl 49.6; 47 M parameters; 101 ms; 12 epochs",
        "srfgan_paper, table2 (test-dev): box AP 40.1, AP50 59.4, AP75 43.2, APs 24.2, APm 43.5, APl 48.3; 12 epochs",
        "srfgan_paper, table3 (val2017): box AP 39.6; 101 ms; 12 epochs",
        "published weights: none",
    ]
    assert "upsampler: srf" in shown
    document = json.loads(
        srfgan("presets", "show", "demo", "--json", "--set", "finetune.solver.iterations=500").out
    )
    assert document["stages"][2]["epochs"] == 2.0 and document["stages"][2]["lr"] == 0.001
    assert document["macs"]["total"] == sum(document["macs"][part] for part in ("backbone", "neck", "head"))
    assert document["references"] == [] and document["config"]["finetune"]["solver"]["iterations"] == 500


def test_presets_are_compared_and_copied(srfgan):
    different = srfgan("presets", "diff", "mask_rcnn_r50_fpn", "mask_rcnn_r50_fpn_nn").out
    assert "model.neck.upsampler" in different and "data.flip" not in different
    assert srfgan("presets", "copy", "mask_rcnn_r50_fpn", "mine.yaml").code == 0
    assert load_preset("mine.yaml").model == load_preset("mask_rcnn_r50_fpn").model
    assert srfgan("presets", "copy", "mask_rcnn_r50_fpn", "mine.yaml").code == 2


def test_what_a_preset_has_not_is_not_said():
    """A multi-scale row trains nothing of its own; the rows of our own table have no numbers yet."""
    schedules = [line for line in summary_lines(load_preset("cascade_s101_pafpn_tta")) if "stage" in line]
    assert [line.partition(": ")[2] for line in schedules] == ["that of cascade_s101_pafpn"] * 3
    assert row_line(load_preset("upsamplers_srf_l1").references[0]).endswith("(val2017): 12 epochs")


PIXELS = {"order": "RGB", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


@pytest.mark.parametrize(
    ("preset", "overrides", "pixel"),
    [
        ("mask_rcnn_r50_fpn_nn", ["model.backbone.name=timm/convnext_atto"], PIXELS),
        ("faster_rcnn_lite0_fpn_nn", ["model.backbone.name=timm/convnext_atto"], PIXELS),
        (
            "mask_rcnn_r50_fpn_nn",
            ["model.pixel.order=BGR", "model.pixel.std=[1, 1, 1]", "model.backbone.name=timm/convnext_atto"],
            {"order": "BGR", "mean": PIXELS["mean"][::-1], "std": [1.0, 1.0, 1.0]},
        ),
        ("faster_rcnn_lite0_fpn", [], {"order": "RGB", "mean": [127.0] * 3, "std": [128.0] * 3}),
    ],
)
def test_who_names_a_backbone_of_timms_names_its_pixels_or_leaves_them_to_timm(
    preset, overrides, pixel, tmp_path
):
    config = load_preset(preset, overrides)
    assert config.model.pixel.model_dump() == pixel
    path = tmp_path / "own.yaml"
    path.write_text(dump_yaml(config))
    assert load_preset(path) == config
