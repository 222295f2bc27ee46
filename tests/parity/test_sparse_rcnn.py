"""Sparse R-CNN R-50-FPN with 100 proposals against its authors', weights loaded from their format."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models import Target, build_detector
from models.heads import sparse_head
from models.ops.pooling import assign_levels, pool_boxes
from models.weights import load_weights
from models.weights.names import to_detectron2, to_ours
from srfgan_cli.presets import load_preset


@pytest.fixture(scope="module")
def run(load_case, weight_file):
    """The case, the preset's model with the weights, and its iterations in evaluation mode."""
    case = load_case("sparse_rcnn_r50_100pro")
    config = load_preset("sparse_rcnn_r50_fpn_nn").model
    model = build_detector(config).eval()
    report = load_weights(model, weight_file(case))
    image = case.rgb_image()
    with torch.no_grad():
        batch, sizes = model.preprocess([image])
        pyramid = model.pyramid(batch)
        iterations = model.head._iterations(pyramid, sizes)
    target = Target(torch.from_numpy(case.golden["gt_boxes"]), torch.from_numpy(case.golden["gt_classes"]))
    return SimpleNamespace(**locals())


def test_every_tensor_is_loaded_and_named_as_there(run):
    assert run.report.complete, run.report.summary()
    assert run.report.loaded == len(run.case.spec["parameters"])
    assert sum(p.numel() for p in run.model.parameters()) == run.case.spec["num_parameters"]
    for name in run.case.spec["parameters"]:
        assert to_detectron2(to_ours(name)) == name


def test_pyramid_and_iterations(run):
    run.case.assert_close("neck_p3", run.pyramid["p3"][:, ::16, ::2, ::2])
    for level in ("p4", "p5"):
        run.case.assert_close(f"neck_{level}", run.pyramid[level][:, ::16])
    boxes = run.model.head._initial_boxes(run.sizes).detach()
    maps = {level: run.pyramid[level] for level in run.model.head.levels}
    pooled = pool_boxes(maps, list(boxes[:, :8]), 7, samples=2)
    run.case.assert_close("stage0_roi_features", pooled[:, ::16])
    for index, (stage, (features, moved)) in enumerate(
        zip(run.model.head.stages, run.iterations, strict=True)
    ):
        levels = assign_levels(boxes[0], 2, 5) - 2
        np.testing.assert_array_equal(levels.numpy(), run.case.golden["pooler_levels"][index])
        with torch.no_grad():
            logits = stage.classify(features)
        run.case.assert_close(f"stage{index}_class_logits", logits if index == 5 else logits[..., ::4])
        run.case.assert_close(f"stage{index}_boxes", moved)
        if index in (0, 5):
            run.case.assert_close(f"stage{index}_object_features", features[..., ::4])
        boxes = moved


def test_detections(run):
    golden = run.case.golden
    with torch.no_grad():
        found = run.model([run.image])[0]
    assert len(found) == len(golden["det_boxes"]) == 100
    near = np.abs(found.boxes.numpy()[None] - golden["det_boxes"][:, None]).max(-1) <= 0.05
    near &= np.abs(found.scores.numpy()[None] - golden["det_scores"][:, None]) <= 1e-3
    near &= found.labels.numpy()[None] == golden["det_classes"][:, None]
    assert near.any(axis=1).all(), "a detection of the reference is missing"


def test_matching_losses_and_gradients(run, monkeypatch):
    expected, golden, matched = run.case.spec["training_check"], run.case.golden, []
    original = sparse_head.match_sets

    def match_sets(costs, counts):
        matched.append(original(costs, counts))
        return matched[-1]

    monkeypatch.setattr(sparse_head, "match_sets", match_sets)
    losses = run.model.train()([run.image], [run.target])
    run.model.eval()
    ((truth, proposal),) = matched
    for stage in range(6):
        pairs = zip(golden["match_proposal"][stage].tolist(), golden["match_gt"][stage].tolist(), strict=True)
        assert set(zip(proposal[stage].tolist(), truth[stage].tolist(), strict=True)) == set(pairs)
    assert set(losses) == set(expected["losses"]) and len(losses) == 18
    for name, value in expected["losses"].items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    for name, value in expected["gradient_norms"].items():
        # In float64: over eight million values, float32 sums lose four digits.
        norm = parameters[to_ours(name)].grad.double().norm().item()
        assert norm == pytest.approx(value, rel=1e-4), name
    trainable = [name for name, p in parameters.items() if p.requires_grad]
    assert [name for name in trainable if parameters[name].grad is None] == []
