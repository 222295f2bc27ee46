"""The rows of the tables and the presets that name them: none is missing, and each preset is what its rows say."""

import pytest
import torch

from srfgan.models import build_detector
from srfgan.models.count import cost_of
from srfgan_cli.presets.costs import shipped_costs
from srfgan_cli.presets.facts import FACTS, load_rows, load_tables
from srfgan_cli.presets.tables import entries_by_table, shipped
from srfgan_cli.presets.yaml_text import read_yaml

PRESETS = shipped()
TRAIN_IMAGES = 117_266
"""Images of COCO train2017 with annotations."""


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
    if row.mask is not None:
        yield "masks", True, model.has_masks
    if row.proposals is not None:
        yield "proposals", row.proposals, model.sparse_rcnn.num_proposals


def extractor_head(name, config):
    if config.finetune.reuse != "M":
        return config.finetune.reuse
    return PRESETS[config.sources.extractor or name].model.detector


def test_every_row_has_one_preset():
    named = [name for config in PRESETS.values() for name in config.rows]
    assert sorted(named) == sorted(load_rows()), "a row without a preset, or with two"


def test_the_facts_are_read_as_they_stand():
    """By a reader that refuses a row given twice."""
    strict = {name: list(table["rows"]) for name, table in read_yaml(FACTS).items()}
    assert strict == {name: [row.row for row in table.rows] for name, table in load_tables().items()}


def test_every_preset_is_what_its_rows_say():
    differing = [
        f"{preset}: {what} is {said}, but {fact} in {row.name}"
        for preset, config in PRESETS.items()
        for row in config.references
        for what, fact, said in agreements(row, preset, config)
        if fact != said
    ]
    assert not differing


def test_every_preset_builds_with_the_papers_parameters():
    millions = {}
    for name, config in PRESETS.items():
        key = config.model.model_dump_json()
        if key not in millions:
            with torch.device("meta"):
                detector = build_detector(config.model)
            millions[key] = sum(parameter.numel() for parameter in detector.parameters()) / 1e6
        for reference in config.references:
            if reference.params is not None:
                assert millions[key] == pytest.approx(reference.params, abs=1.0), name


EACH_ONCE = {(config.model.detector, config.model.neck.name): name for name, config in PRESETS.items()}


def test_the_cost_of_one_preset_of_each_detector_and_neck_is_counted():
    for name in EACH_ONCE.values():
        check_cost(name)


@pytest.mark.slow
def test_the_cost_of_every_preset_is_counted():
    names = {config.model.model_dump_json(): name for name, config in PRESETS.items()}
    for name in names.values():
        check_cost(name)


def check_cost(name):
    """It is what the shipped file says: python benchmarks/costs.py > presets/_facts/costs.yaml.

    Every part costs something; a detector without a pyramid has no neck.
    """
    model = PRESETS[name].model
    cost = cost_of(model)
    assert shipped_costs()[name] == cost, name
    counts = dict(vars(cost))
    assert (counts.pop("neck") > 0) == model.has_pyramid
    assert min(counts.values()) > 0


def test_each_preset_has_its_cost_and_presets_of_one_detector_the_same():
    costs = shipped_costs()
    assert list(costs) == list(PRESETS)
    of_model = {PRESETS[name].model.model_dump_json(): cost for name, cost in costs.items()}
    assert all(of_model[PRESETS[name].model.model_dump_json()] == cost for name, cost in costs.items())


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
    entries = entries_by_table()
    assert [entry.preset for entry in entries["table4"]] == [f"table4_a{number}" for number in range(1, 6)]
    for name, table in load_tables().items():
        assert tuple(entry.reference for entry in entries[name]) == table.rows
