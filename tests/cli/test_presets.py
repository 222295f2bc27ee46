"""Presets: every one loads and survives being written; mistakes are named. Their numbers: test_tables.py."""

import json

import pytest

from models.errors import InputError
from srfgan_cli.presets import PRESETS_DIR, dump_yaml, list_presets, load_preset


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
        ("base: own.yaml", "Preset inheritance runs in a circle: own -> own."),
        ("extra: 1", "unknown key 'extra'"),
    ],
)
def test_a_wrong_file_is_explained(text, message, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        load_preset(tmp_path / "own.yaml")
    assert message in str(error.value)


def test_a_users_file_builds_on_a_preset(tmp_path):
    (tmp_path / "own.yaml").write_text("base: mask_rcnn_r50_fpn\nfinetune: {solver: {lr: 1e-3}}\n")
    config = load_preset(tmp_path / "own.yaml")
    assert (config.name, config.finetune.solver.lr, config.references) == ("own", 1e-3, [])
    assert config.finetune.solver.milestones == [60_000, 80_000]


def test_the_presets_command(srfgan):
    listed = json.loads(srfgan("presets", "list", "--table", "table5", "--json").out)
    assert [(row["preset"], row["box"]) for row in listed] == [
        ("table5_bicubic", 38.5),
        ("table5_bilinear", 38.6),
        ("table5_nn", 38.6),
        ("table5_srf", 41.2),
    ]
    assert "mask_rcnn_r50_fpn_nn_3x" in srfgan("presets", "list").out
    assert "table 'table9'" in srfgan("presets", "list", "--table", "table9").err
    shown = srfgan("presets", "show", "mask_rcnn_r50_fpn").out
    assert "# parameters: 53.9 M" in shown and "upsampler: srf" in shown
    different = srfgan("presets", "diff", "mask_rcnn_r50_fpn", "mask_rcnn_r50_fpn_nn").out
    assert "model.neck.upsampler" in different and "data.flip" not in different
    assert srfgan("presets", "copy", "mask_rcnn_r50_fpn", "mine.yaml").code == 0
    assert load_preset("mine.yaml").model == load_preset("mask_rcnn_r50_fpn").model
    assert srfgan("presets", "copy", "mask_rcnn_r50_fpn", "mine.yaml").code == 2
