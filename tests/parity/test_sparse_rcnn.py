"""Sparse R-CNN against its authors', weights loaded from their format."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity_cases import ParityCase
from parity_configs import config_of

from srfgan.models import build_detector
from srfgan.models.heads import sparse_head
from srfgan.models.ops.pooling import assign_levels, pool_boxes
from srfgan.models.weights import load_weights
from srfgan.models.weights.names import to_detectron2, to_ours

KINDS = ("sparse_rcnn",)


@pytest.fixture(scope="module")
def run(case_folder, weight_file):
    """The case, its model with the weights, and its iterations in evaluation mode."""
    case = ParityCase(case_folder)
    model = build_detector(config_of(case.spec)).eval()
    report = load_weights(model, weight_file(case))
    images = case.rgb_images()
    count = len(images)
    with torch.no_grad():
        batch, sizes = model.preprocess(images)
        pyramid = model.pyramid(batch)
        iterations = model.head._iterations(pyramid, sizes)
    return SimpleNamespace(**locals())


def test_every_tensor_is_loaded_and_named_as_there(run):
    assert run.report.complete, run.report.summary()
    assert run.report.loaded == len(run.case.spec["parameters"])
    assert sum(p.numel() for p in run.model.parameters()) == run.case.spec["num_parameters"]
    for name in run.case.spec["parameters"]:
        assert to_detectron2(to_ours(name)) == name


def test_pyramid_and_iterations(run):
    for level, feature in run.pyramid.items():
        if f"neck_{level}" in run.case.golden:
            run.case.assert_close(f"neck_{level}", feature)
    boxes = run.model.head._initial_boxes(run.sizes).detach()
    first = {level: run.pyramid[level][:1] for level in run.model.head.levels}
    stored = run.case.golden["stage0_roi_features"]
    pooled = pool_boxes(first, [boxes[0, : len(stored)]], 7, samples=2)
    run.case.assert_close("stage0_roi_features", pooled)
    for index, (stage, (features, moved)) in enumerate(
        zip(run.model.head.stages, run.iterations, strict=True)
    ):
        levels = assign_levels(boxes.flatten(0, 1), 2, 5) - 2
        wanted = run.case.golden["pooler_levels"][index].reshape(-1)
        np.testing.assert_array_equal(levels.numpy()[: len(wanted)], wanted)
        with torch.no_grad():
            logits = stage.classify(features)
        run.case.assert_close(f"stage{index}_class_logits", logits)
        run.case.assert_close(f"stage{index}_boxes", moved)
        if f"stage{index}_object_features" in run.case.golden:
            run.case.assert_close(f"stage{index}_object_features", features)
        boxes = moved


def test_detections(run):
    with torch.no_grad():
        detections = run.model(run.images)
    for index, found in enumerate(detections):
        run.case.assert_detections(index, run.count, found)


def test_matching_losses_and_gradients(run, monkeypatch):
    golden, matched = run.case.golden, []
    original = sparse_head.match_sets

    def match_sets(costs, counts):
        matched.append(original(costs, counts))
        return matched[-1]

    monkeypatch.setattr(sparse_head, "match_sets", match_sets)
    losses = run.model.train()(run.images, run.case.targets(run.count))
    run.model.eval()
    ((truth, proposal),) = matched
    for stage in range(len(run.model.head.stages) if run.count == 1 else 0):
        pairs = zip(golden["match_proposal"][stage].tolist(), golden["match_gt"][stage].tolist(), strict=True)
        assert set(zip(proposal[stage].tolist(), truth[stage].tolist(), strict=True)) == set(pairs)
    run.case.assert_losses(losses)
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    run.case.assert_gradients(parameters, lambda name: 1e-4)
    trainable = [name for name, p in parameters.items() if p.requires_grad]
    assert [name for name in trainable if parameters[name].grad is None] == []
