"""Presets: every one loads and survives being written; mistakes are named. Their numbers: test_tables.py."""

import json
import os
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from detector_configs import fitting

from srfgan import PRESETS_DIR
from srfgan.models.config import DETECTORS, RetinaNetConfig
from srfgan.models.errors import InputError
from srfgan.models.weights.files import Checkpoint
from srfgan_cli.presets.describe import header, recipe
from srfgan_cli.presets.digest import summary_lines
from srfgan_cli.presets.facts import load_rows
from srfgan_cli.presets.library import OWN, dump_yaml, list_presets, load_preset
from srfgan_cli.presets.tables import shipped
from srfgan_cli.presets.yaml_text import read_yaml
from srfgan_cli.training import initial
from srfgan_cli.training.initial import load_initial, unlike

NOT_RUN = {
    "extract": ["--dry-run", "--json"],
    "finetune": ["--dry-run", "--json"],
    "eval": ["--devices", "cpu"],
}
"""Options with which a command comes to no run; `eval` gets as far as the data that are not there."""

DATA = Path(__file__).with_name("data")


@pytest.mark.parametrize("name", list_presets())
def test_preset_survives_a_round_trip(name, tmp_path):
    config = load_preset(name)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert load_preset(tmp_path / "config.yaml") == config


def test_every_file_is_a_preset_or_what_several_build_on():
    """Of a base that no preset has, another file or a person lays it over a preset."""
    files = [path for path in PRESETS_DIR.rglob("*.yaml") if path.parent.name != "_facts"]
    assert len({path.stem for path in files}) == len(files), "two files of one name"
    texts = {path.stem: read_yaml(path) for path in files}
    bases = {path.stem for path in files if path.parent.name == "_base"}
    assert set(texts) - bases == set(list_presets())
    built_on = [base for values in texts.values() for base in [values.get("base", [])]]
    used = {name for base in built_on for name in ([base] if isinstance(base, str) else base)}
    assert bases - used == {"nuclei_lite0", "coco_person"}
    assert not [name for name in bases if set(texts[name]) & set(OWN)], "what a row is, is not inherited"


@pytest.fixture
def placeholders(tmp_path, monkeypatch):
    """What the commands name, and no measuring of this machine."""
    for split in ("train", "val"):
        (tmp_path / "DIR" / f"{split}2017").mkdir(parents=True)
        annotations = tmp_path / "DIR" / "annotations" / f"instances_{split}2017.json"
        annotations.parent.mkdir(exist_ok=True)
        annotations.write_text("{}")
    (tmp_path / "FILE").touch()
    monkeypatch.setattr("srfgan_cli.reproduction.dry_run.job_gmacs", lambda job: 1.0)
    monkeypatch.setattr("srfgan_cli.reproduction.dry_run.hours", lambda *_: 1.0)


def test_the_commands_that_show_names_work(srfgan, placeholders):
    for name, config in shipped().items():
        said = dict(
            line.split(": ", 1) for line in header(config, name) if line.startswith(("run", "change", "with"))
        )
        _, command, *options = shlex.split(said["run"])
        done = srfgan(command, *options, *shlex.split(said["change"]), *NOT_RUN[command])
        if command == "eval":
            assert done.code == 2 and "instances_val2017.json: 'images' must be a list" in done.err, done.err
        else:
            assert done.code == 0, (name, done.err)
            solver = json.loads(done.out)["config"][command]["solver"]
            assert max([solver["warmup_iterations"], *solver["milestones"]]) < solver["iterations"], name
        assert ("with all that it rests on" in said) == bool(config.rows)


def test_a_row_can_be_run_with_all_that_it_rests_on(srfgan, placeholders):
    (line,) = [line for line in header(load_preset("table4_a2"), "table4_a2") if line.startswith("with")]
    _, *command = shlex.split(line.split(": ", 1)[1])
    runs = json.loads(srfgan(*command, "--dry-run", "--json", "--devices", "cpu").out)
    assert [run["kind"] for run in runs] == ["finetune", "pretrain", "finetune"]


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


def test_the_repositories_recipe():
    published = load_preset("mask_rcnn_r50_pafpn_3x")
    assert published.discriminator.kernel == 3 and published.finetune.reuse == "G"
    assert (published.pretrain.solver.iterations, published.extract.solver.scaled_lr) == (300_000, 0.01)
    assert published.extract.start_from_guide and published.extract.reduction == "nn"
    assert published.finetune.solver.iterations == 270_000
    (row,) = published.references
    assert (row.split, row.epochs, row.box.AP, row.mask.AP) == ("test-dev", 37, 43.0, 38.5)


def test_sections_of_other_detectors_that_a_base_brings_go_where_the_detector_is_named(tmp_path):
    """As where a preset of one's own puts a base for any detector over a row."""
    own = tmp_path / "own.yaml"
    own.write_text("base: [upsamplers_srf, nuclei_lite0]")
    with pytest.raises(InputError, match="atss: mask_rcnn has no such section; it is of atss") as refused:
        load_preset(own)
    cure = "A preset that names model.detector leaves out what its bases have for other detectors."
    assert str(refused.value).splitlines()[-1] == cure
    own.write_text("base: [upsamplers_srf, nuclei_lite0]\nmodel: {detector: mask_rcnn}")
    assert load_preset(own).model.neck.upsampler == "srf"
    own.write_text("base: upsamplers_srf\nmodel: {detector: mask_rcnn, atss: {}}")
    with pytest.raises(InputError, match="it is of atss"):
        load_preset(own)


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
        (
            "model.cascade.ious=[0.5]",
            "model.cascade: mask_rcnn has no such section; it is of cascade_rcnn",
        ),
        (
            "model.detector=cascade_rcnn\nmodel.cascade.ious=[0.5]",
            "cascade needs as many ious as weights, got 1 and 3",
        ),
        (
            "discriminator.normalization=spectral\nextract.solver.recompute=true",
            "extract.solver.recompute runs D a second time, in which discriminator.normalization spectral",
        ),
        (
            "pretrain.adversarial.r1=10\npretrain.solver.compile=true",
            "leave pretrain.solver.compile out, got r1 10",
        ),
        (
            "model.detector=retinanett",
            "model.detector: 'retinanett' is not one of 'faster_rcnn', 'mask_rcnn'",
        ),
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
            "extract.pairing=different\nextract.adversarial.levels=[p5,p6]",
            "G makes of the one above it, and the neck of mask_rcnn gives none above p6, got p6.",
        ),
        (
            "pretrain.adversarial.levels=[p2,p3,p2]",
            "pretrain.adversarial.levels: each is named once, got p2 2 times.",
        ),
        ("trackers=[wandb,wandb]", "trackers: each is named once, got wandb 2 times."),
        (
            "stages=[finetune,pretrain]",
            "stages run in the order pretrain, finetune, got finetune, pretrain: the last one's detector is evaluated.",
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
        (
            "rows=[tabel1/mask_rcnn_m, table1/mask_rcnn_m]",
            "Preset 'mask_rcnn_r50_fpn': rows.0: no table has a row 'tabel1/mask_rcnn_m'. "
            "Did you mean 'table1/mask_rcnn_m'",
        ),
        (
            "model.detector=tridentnet\nstages=[finetune]\nfinetune.reuse=none\nfinetune.freeze_generator=true",
            "tridentnet has no generator: no finetune.freeze_generator, got true",
        ),
        ("references=[]", "unknown key 'references'."),
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
        (
            "data.crop={smallest: 700}",
            "data.crop: the smallest crop is larger than the largest, got 700 and 600.",
        ),
        (
            "data.scale_jitter={smallest: 3}",
            "data.scale_jitter: the smallest factor is larger than the largest, got 3.0 and 2.0.",
        ),
        (
            "data={crop: {}, scale_jitter: {}}",
            "data: data.crop and data.scale_jitter both crop images; leave one of them out",
        ),
        ("seed=2024-01-01", "seed: Input should be a valid integer, got '2024-01-01'"),
        (f"seed={'9' * 5000}", "not valid YAML"),
        (
            f"seed=0x{'f' * 5000}",
            "seed: Input should be less than or equal to 4294967295, got a number of thousands",
        ),
        (f"seed={'[' * 9000}", "nested too deeply"),
        (f"{'a.' * 3000}b=1", "the key is nested too deeply"),
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
        ("", "own.yaml is empty. Write it again; a preset of defaults alone is {}."),
        ("# base: demo\n", "own.yaml is empty."),
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
    assert published.guide == "mask_rcnn_r50_fpn_nn_3x"


def test_a_users_file_builds_on_a_preset(tmp_path):
    (tmp_path / "own.yaml").write_text("base: mask_rcnn_r50_fpn\nfinetune: {solver: {lr: 1e-3}}\n")
    config = load_preset(tmp_path / "own.yaml")
    assert (config.name, config.finetune.solver.lr, config.references) == ("own", 1e-3, [])
    assert config.finetune.solver.milestones == [60_000, 80_000]


def test_a_users_file_may_name_rows(tmp_path):
    (tmp_path / "own.yaml").write_text("base: mask_rcnn_r50_fpn\nrows: [table5/srf]\n")
    assert load_preset(tmp_path / "own.yaml").references == [load_rows()["table5/srf"]]


REFERENCES = """
references:
- {table: table1, document: srfgan_paper, split: val2017, params: 54.0, ms: 118.0, epochs: 12, tta: false,
   box: {AP: 41.2, APs: 25.2, APm: 45.0, APl: 51.4}, mask: {AP: 37.0, APs: 18.8, APm: 39.5, APl: 52.2}}
- {table: table4, document: srfgan_paper, name: A5, box: {AP: 41.2}, mask: {AP: 37.0}}
- {table: upsamplers, document: srfgan, name: srf_l1, epochs: 12}
"""


def test_a_file_of_version_0_1_keeps_its_rows(tmp_path, capsys):
    """It stated their numbers. Those of a table of the user's own have no place any more, which is said."""
    own = tmp_path / "own.yaml"
    own.write_text(f"base: mask_rcnn_r50_fpn\ndescription: mine\n{REFERENCES}")
    assert load_preset(own).rows == ["table1/mask_rcnn_m", "table4/a5", "upsamplers/srf_l1"]
    assert capsys.readouterr().err == ""
    for given in (
        "[{table: mine, box: {AP: 11.0}}]",
        "[{table: table4, name: A5, box: {AP: 41.3}}]",
        "3",
        "[[]]",
    ):
        own.write_text(f"base: mask_rcnn_r50_fpn\nreferences: {given}\n")
        assert load_preset(own).rows == []
        assert capsys.readouterr().err.startswith(f"{own}: references: not read any more, and not a row")


def test_the_list_of_presets(srfgan):
    listed = json.loads(srfgan("presets", "list", "--table", "table5", "--json").out)
    assert [(row["preset"], row["box"], row["mask"]) for row in listed] == [
        ("table5_nn", 38.6, 35.2),
        ("table5_bilinear", 38.6, 35.2),
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
    said = "Mask R-CNN R-50-FPN, srf, whole extractor of mask_rcnn_r50_fpn reused (M), 12 epochs"
    assert row.endswith(said), "a row is a line where no terminal ends"
    of_table3 = srfgan("presets", "list", "--table", "table3").out
    assert "SRF-GAN paper" in of_table3 and "40.0  36.2" in of_table3 and "table4" not in of_table3
    assert "There is no table 'table9'. Tables: table1," in srfgan("presets", "list", "--table", "table9").err


def test_sparse_rcnns_two_numbers(srfgan):
    """The article's is of 300 proposals; that of 100 is the authors' README's, and both presets say which is whose."""
    listed = srfgan("presets", "list", "--table", "sparse_rcnn").out.splitlines()
    assert [line.split()[:2] for line in listed if line.startswith("sparse_rcnn_r50")] == [
        ["sparse_rcnn_r50_fpn_nn", "42.8"],
        ["sparse_rcnn_r50_fpn_300pro", "45.0"],
    ]
    shown = srfgan("presets", "show", "sparse_rcnn_r50_fpn_nn").out
    assert "the article's 45.0 is of 300 proposals and random crops" in shown
    many = load_preset("sparse_rcnn_r50_fpn_300pro")
    assert "22 images/s; 300 proposals" in str(many.references[0]) and recipe(many).endswith("random crops")
    assert many.data.crop is not None and load_preset("sparse_rcnn_r50_fpn_nn").data.crop is None


def test_the_command_of_a_changed_preset_says_what_was_changed(srfgan):
    setting = "model.backbone={name: r18}"
    shown = srfgan("presets", "show", "retinanet_r50_fpn", "--set", setting).out
    command = f"run: srfgan finetune --preset retinanet_r50_fpn --set '{setting}' --data-root DIR"
    assert f"# {command}" in shown.splitlines() and "reproduce" not in shown


def test_what_a_preset_amounts_to(srfgan):
    shown = srfgan("presets", "show", "retinanet_r50_fpn").out
    comments = [line.removeprefix("# ") for line in shown.splitlines() if line.startswith("#")]
    assert comments == [
        "RetinaNet R-50-FPN, srf, whole extractor of mask_rcnn_r50_fpn reused (M), 12 epochs",
        "srfgan_paper, table1/retinanet_m (val2017): box AP 39.6, APs 24.7, APm 44.0, APl 49.6; 47 M parameters; "
        "101 ms; 12 epochs",
        "srfgan_paper, table2/retinanet_srf (test-dev): box AP 40.1, AP50 59.4, AP75 43.2, APs 24.2, APm 43.5, "
        "APl 48.3; 12 epochs",
        "srfgan_paper, table3/retinanet_from_mask_rcnn (val2017): box AP 39.6; 101 ms; 12 epochs",
        "run: srfgan finetune --preset retinanet_r50_fpn --data-root DIR",
        "change: --iterations 1000 --set finetune.solver.lr=0.005",
        "with all that it rests on: srfgan reproduce table1 --rows retinanet_r50_fpn --data-root DIR",
        "parameters: 47.4 M",
        "GMACs at 800x1216: 268.2 (backbone 74.8, neck 62.5, head 130.9), with as many boxes as the config allows",
        "guide F: mask_rcnn_r50_fpn_nn, Mask R-CNN R-50-FPN, nearest neighbour, 12 epochs; 1,440,000 images, "
        "12.3 epochs, box AP 38.6, mask AP 35.2 (table1/mask_rcnn_nn)",
        "stage 1, pretrain: that of mask_rcnn_r50_fpn",
        "stage 2, extract: that of mask_rcnn_r50_fpn",
        "stage 3, finetune: 90,000 iterations of 16 = 1,440,000 images, 12.3 epochs; sgd, lr 0.01, "
        "x0.1 at 60,000, 80,000",
        "published weights: none",
    ]
    assert "upsampler: srf" in shown
    document = json.loads(
        srfgan("presets", "show", "demo", "--json", "--set", "finetune.solver.iterations=500").out
    )
    assert document["stages"][2]["epochs"] == 2.0 and document["stages"][2]["lr"] == 0.001
    assert document["macs"]["total"] == sum(document["macs"][part] for part in ("backbone", "neck", "head"))
    assert document["references"] == [] and document["config"]["finetune"]["solver"]["iterations"] == 500


DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation"


def test_what_f_is_and_costs_and_what_else_it_can_be(srfgan):
    def said(name, *options):
        lines = srfgan("presets", "show", name, *options).out.splitlines()
        return [line.removeprefix("# ") for line in lines if " F" in line and line.startswith("# ")]

    file = f"{DETECTRON2}/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl"
    assert said("mask_rcnn_r50_fpn_afi") == [
        "guide F: mask_rcnn_r50_fpn_nn_3x, Mask R-CNN R-50-FPN, nearest neighbour, 37 epochs; 4,320,000 images, "
        "36.8 epochs, box AP 41.0, mask AP 37.2 (table1/mask_rcnn_nn_3x)",
        "another F: --set sources.guide=mask_rcnn_r50_fpn_nn: 1,440,000 images, 12.3 epochs, box AP 38.6, "
        "mask AP 35.2 (table1/mask_rcnn_nn)",
        f"F of a file: --guide FILE, or --guide published: {file}",
    ]
    changed = said("mask_rcnn_r50_fpn", "--set", "sources.guide=mask_rcnn_r50_fpn_nn_3x")
    assert changed[0].startswith("guide F: mask_rcnn_r50_fpn_nn_3x") and changed[1].startswith(
        "another F: --set"
    )
    assert said("mask_rcnn_r50_fpn_nn") == []
    Path("own.yaml").write_text("base: mask_rcnn_r50_fpn\n")
    assert said("own.yaml") == [
        "guide F: own_nn, which is no preset: --set sources.guide=NAME, or --guide FILE"
    ]
    guide = json.loads(srfgan("presets", "show", "fcos_r50_fpn", "--json").out)["guide"]
    assert (guide["preset"], guide["images"], guide["other"]) == ("fcos_r50_fpn_nn", 1_440_000, None)
    assert (guide["row"], guide["mask"]) == ("srfgan_repository/fcos_r50_fpn_nn", None)
    assert guide["weights"] == load_rows()[guide["row"]].weights
    assert json.loads(srfgan("presets", "show", "demo_nn", "--json").out)["guide"] is None


def test_the_repositories_guide_is_the_one_of_37_epochs_where_they_have_one():
    guides = {name: load_preset(name).guide for name in ("mask_rcnn_r50_fpn_afi", "mask_rcnn_r50_pafpn_3x")}
    assert guides == {
        "mask_rcnn_r50_fpn_afi": "mask_rcnn_r50_fpn_nn_3x",
        "mask_rcnn_r50_pafpn_3x": "mask_rcnn_r50_pafpn_nn_3x",
    }
    assert load_preset("centermask_r50_bifpn").guide == "centermask_r50_bifpn_nn_3x"
    assert load_preset("cascade_s101_pafpn").guide == "cascade_s101_pafpn_nn"
    assert load_preset("mask_rcnn_r50_fpn").guide == "mask_rcnn_r50_fpn_nn"
    assert load_preset("centermask_r50_bifpn_nn").sources.guide is None


def test_presets_are_compared(srfgan):
    different = srfgan("presets", "diff", "mask_rcnn_r50_fpn", "mask_rcnn_r50_fpn_nn").out
    assert "model.neck.upsampler" in different and "data.flip" not in different


def test_a_copy_stands_by_itself(srfgan):
    """It builds on no other file, and its detector is trained against the same F under its own name."""
    done = srfgan("presets", "copy", "mask_rcnn_r50_fpn", "mine.yaml")
    assert done.out == "mine.yaml written. Use it: srfgan finetune --preset mine.yaml --data-root DIR\n"
    original, copied = load_preset("mask_rcnn_r50_fpn"), load_preset("mine.yaml")
    changed = {
        "name": "mine",
        "sources": original.sources.model_copy(update={"guide": "mask_rcnn_r50_fpn_nn"}),
    }
    assert copied == original.model_copy(update=changed)
    lines = Path("mine.yaml").read_text().splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        f"# {line}" for line in header(copied, "mine.yaml")
    ]
    assert not [line for line in lines if line.startswith(("base:", "name:"))]
    assert srfgan("presets", "copy", "mask_rcnn_r50_fpn", "mine.yaml").code == 2


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("mask_rcnn_r50_fpn_g", [], "srf, generator of mask_rcnn_r50_fpn reused (G), 12 epochs"),
        ("cascade_s101_pafpn_tta", [], "afi, generator reused (G), 12 epochs, multi-scale testing"),
        ("mask_rcnn_r50_fpn_nn", ["model.neck.upsampler=srf"], "srf, not pre-trained, 12 epochs"),
        ("table4_a3", [], "srf, the extractor of mask_rcnn_r50_fpn itself, 37 epochs"),
        (
            "upsamplers_srf",
            [
                "pretrain.adversarial={weight: 0.1, loss: least_squares, r1: 2}",
                "discriminator.normalization=spectral",
            ],
            "srf, whole extractor reused (M), 12 epochs, adversarial term of weight 0.1, least-squares loss of D, "
            "R1 of 2, D spectrally normalised",
        ),
        (
            "demo",
            ["data.degradation=nn"],
            "srf, whole extractor reused (M), 3 epochs, half-size images by nn",
        ),
        ("fcos_r18_bifpn_nn", [], "nearest neighbour, 2,400 images"),
    ],
)
def test_what_a_preset_is_is_told_by_its_config(name, overrides, said):
    assert recipe(load_preset(name, overrides)).partition(", ")[2] == said


def test_what_a_preset_has_not_is_not_said():
    """A multi-scale row trains nothing of its own; the rows of our own table have no numbers yet."""
    lines = summary_lines(load_preset("cascade_s101_pafpn_tta"), "cascade_s101_pafpn_tta")
    schedules = [line.partition(": ")[2] for line in lines if line.startswith("stage")]
    assert schedules == ["that of cascade_s101_pafpn"] * 3
    assert str(load_rows()["upsamplers/srf_l1"]) == "srfgan, upsamplers/srf_l1 (val2017): 12 epochs"


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


def test_first_weights_that_know_other_pixels_are_told_of(monkeypatch, capsys):
    """Frozen norms would see BGR of 0..255 where they know RGB in standard deviations: a loss that nothing shows."""
    monkeypatch.setattr(initial, "load_imagenet", lambda *_: SimpleNamespace(complete=True))
    plain = [name for name, config in shipped().items() if unlike(config.initial_weights, config.model)]
    assert plain == ["centermask_v99_fpn_nn_3x"], "of which timm has no weights"
    overrides = ["initial_weights=imagenet"]
    load_initial(None, load_preset("mask_rcnn_r50_fpn_nn", overrides))
    said = " ".join(capsys.readouterr().err.split())
    assert "the weights of imagenet were trained with other pixels or strides" in said
    options = said.split(" --set ", 1)[1].split(" --set ")
    load_initial(
        None, load_preset("mask_rcnn_r50_fpn_nn", [*overrides, *(each.strip("'") for each in options)])
    )
    assert capsys.readouterr().err == "", "as they were"


def test_a_config_of_version_0_1_loads():
    """It holds the sections of all detectors; the detector's own keep their values."""
    config = load_preset(DATA / "config_0_1.yaml")
    assert isinstance(config.model, RetinaNetConfig)
    assert config.model.retinanet.num_convs == 2
    assert config.model == load_preset("retinanet_r18_fpn", ["model.retinanet.num_convs=2"]).model


def test_a_checkpoint_of_version_0_1_tells_its_detector():
    stored = yaml.safe_load((DATA / "config_0_1.yaml").read_text())["model"]
    assert (
        Checkpoint(Path("model.pth"), {}, model=stored).model_config()
        == load_preset(DATA / "config_0_1.yaml").model
    )


@pytest.mark.parametrize("given", ["override", "file", "overlay"])
def test_another_detector_leaves_the_sections_that_it_has_not(given, tmp_path):
    """What both have stays as the preset says; what a section of the new one says does too."""
    own = tmp_path / "own.yaml"
    model = "model: {detector: retinanet, retinanet: {num_convs: 3}}\n"
    if given == "override":
        overrides = ["model.retinanet.num_convs=3", "model.detector=retinanet"]
        config = load_preset("mask_rcnn_r18_fpn_nn", overrides)
    elif given == "file":
        own.write_text(f"base: mask_rcnn_r18_fpn_nn\n{model}")
        config = load_preset(own)
    else:
        own.write_text(model)
        config = load_preset("mask_rcnn_r18_fpn_nn", overlay=own)
    before = load_preset("mask_rcnn_r18_fpn_nn").model
    assert isinstance(config.model, RetinaNetConfig)
    assert config.model.retinanet.num_convs == 3
    shared = RetinaNetConfig.model_fields.keys() & before.model_dump().keys() - {"detector"}
    assert {key: getattr(config.model, key) for key in shared} == {
        key: getattr(before, key) for key in shared
    }


def test_an_overlay_is_for_presets_of_any_detector(tmp_path):
    """It may have sections of several; each takes its own."""
    overlay = tmp_path / "own.yaml"
    overlay.write_text("model: {rpn: {nms_iou: 0.6}, retinanet: {num_convs: 1}, neck: {channels: 64}}\n")
    one, two = (
        load_preset(f"{name}_r18_fpn_nn", overlay=overlay).model for name in ("retinanet", "mask_rcnn")
    )
    assert (one.retinanet.num_convs, one.neck.channels, two.rpn.nms_iou, two.neck.channels) == (
        1,
        64,
        0.6,
        64,
    )


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_preset_shows_only_what_its_detector_has(detector):
    over = [f"model.detector={detector}", *fitting(["model.neck.channels=64"], detector)]
    config = load_preset("mask_rcnn_r18_fpn_nn", over)
    assert set(yaml.safe_load(dump_yaml(config))["model"]) == set(DETECTORS[detector].model_fields)
