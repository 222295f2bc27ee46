"""The facts of every table row against the presets: none is missing, none is invented, and they agree."""

import pytest

from models.cost import cost_of
from srfgan_cli.presets import list_presets, load_preset
from srfgan_cli.presets.tables import entries_by_table, load_tables

ROWS = [row for table in load_tables().values() for row in table.rows]
PRESETS = {name: load_preset(name) for name in list_presets()}
TRAIN_IMAGES = 117_266
"""Images of COCO train2017 with annotations."""


def label(row):
    parts = [
        row.table,
        row.name,
        row.detector,
        row.backbone,
        row.neck,
        row.interpolation,
        row.reuse,
        row.epochs,
    ]
    parts += [row.extractor_head and f"from {row.extractor_head}", row.degradation, row.levels]
    parts += ["tta" if row.tta else None, "enhanced" if row.feature_enhancement else None]
    return " ".join(str(part) for part in parts if part)


def agreements(row, name, config):
    """(what, the row's fact, what the preset says) of everything that the document states."""
    model, train = config.model, config.finetune
    yield "detector", row.detector, model.detector
    yield "backbone", row.backbone, model.backbone.name
    yield "neck", row.neck, model.neck.name
    yield "tta", row.tta, config.evaluation.tta.enabled
    yield "self_training", row.self_training, train.self_training is not None
    yield "feature_enhancement", row.feature_enhancement, train.feature_enhancement is not None
    yield "freeze_generator", row.freeze_generator, train.freeze_generator
    if row.interpolation is not None:
        body = "afi" if row.document.endswith("repository") else "srf"
        wanted = body if row.interpolation in ("srf", "afi") else row.interpolation
        yield "upsampler", wanted, model.neck.upsampler
    if row.interpolation in ("nn", "bilinear", "bicubic") or row.reuse == "none":
        yield "plain stages", (["finetune"], "none"), (config.stages, train.reuse)
    elif row.reuse is not None:
        yield "reuse", row.reuse, train.reuse
    if row.epochs is not None:
        solver = train.solver
        epochs = solver.iterations * solver.batch_size / TRAIN_IMAGES
        yield "epochs", row.epochs, row.epochs if abs(epochs - row.epochs) < 1 else epochs
    if row.extractor_head is not None:
        yield "extractor_head", row.extractor_head, extractor_head(name, config)
    if row.stages is not None:
        yield "stages", row.stages, config.stages
    if row.degradation is not None:
        yield "degradation", row.degradation, config.data.degradation
    if row.levels is not None:
        yield "levels", row.levels, config.extract.pairing
    if row.proposals is not None:
        yield "proposals", row.proposals, model.sparse_rcnn.num_proposals


def extractor_head(name, config):
    if config.finetune.reuse != "M":
        return config.finetune.reuse
    return PRESETS[config.sources.extractor or name].model.detector


def presets_of(row):
    return [name for name, config in PRESETS.items() if claims(row, name, config)]


def claims(row, name, config):
    return row.reference in config.references and all(a == b for _, a, b in agreements(row, name, config))


def test_the_facts_are_complete():
    sizes = {name: len(table.rows) for name, table in load_tables().items()}
    assert sizes == {
        "table1": 11,
        "table2": 13,
        "table2_others": 7,
        "table3": 12,
        "table4": 5,
        "table5": 4,
        "table6": 3,
        "table7": 2,
        "srfgan_repository": 18,
        "afigan_repository": 16,
        "feature_enhancement": 2,
        "sparse_rcnn": 1,
        "upsamplers": 11,
    }
    own = sizes.pop("upsamplers")
    assert sum(sizes.values()) == 94
    assert len(set(map(label, ROWS))) == 94 + own


def test_every_row_has_one_preset():
    found = {id(row): presets_of(row) for row in ROWS}
    missing = {label(row) for row in ROWS if not found[id(row)]}
    assert not missing
    assert not [names for names in found.values() if len(names) > 1], "two presets for one row"


def test_no_preset_claims_a_row_that_does_not_exist_or_differs():
    for name, config in PRESETS.items():
        for reference in config.references:
            rows = [row for row in ROWS if row.reference == reference]
            assert rows, f"{name}: no row of {reference.table} has these numbers"
            differing = [
                [fact for fact in agreements(row, name, config) if fact[1] != fact[2]] for row in rows
            ]
            assert [] in differing, f"{name} is not what {reference.table} says: {differing}"


def test_every_preset_builds_with_the_papers_parameters():
    costs = {}
    for name, config in PRESETS.items():
        key = config.model.model_dump_json()
        if key not in costs:
            costs[key] = cost_of(config.model)
        assert costs[key].head > 0
        for reference in config.references:
            if reference.params is not None:
                assert costs[key].parameters / 1e6 == pytest.approx(reference.params, abs=1.0), name


def test_the_presets_that_feed_another_exist():
    for name, config in PRESETS.items():
        sources = config.sources
        if sources.detector is not None:
            assert sources.detector in PRESETS and config.model == PRESETS[sources.detector].model, name
            continue
        if "pretrain" in config.stages or "extract" in config.stages:
            assert (sources.guide or f"{name}_nn") in PRESETS, name
        if "extract" in config.stages:
            assert "pretrain" in PRESETS[sources.generator or name].stages, name
        if config.finetune.reuse == "M" and "finetune" in config.stages:
            assert "extract" in PRESETS[sources.extractor or name].stages, name


def test_the_entries_of_a_table_keep_its_order():
    entries = entries_by_table()["table4"]
    assert [entry.preset for entry in entries] == [f"table4_a{number}" for number in range(1, 6)]
    tables = {
        table
        for table, found in entries_by_table().items()
        if any(e.preset == "mask_rcnn_r50_fpn" for e in found)
    }
    assert tables == {"table1", "table2", "table3"}
