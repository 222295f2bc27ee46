"""TridentNet Fast against detectron2's project, weights loaded from its own format.

What detectron2 has not, scale-aware training, is held to references in tests/models/test_tridentnet.py.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity_cases import ParityCase, box_errors, pair
from parity_configs import tridentnet_config

from srfgan.models import build_detector
from srfgan.models.ops.pooling import maps_for_pooling
from srfgan.models.structures import Detections
from srfgan.models.weights import load_weights
from srfgan.models.weights.names import to_ours

KINDS = ("tridentnet",)


def build(case, path, **trident):
    model = build_detector(tridentnet_config(case.spec, **trident)).eval()
    return model, load_weights(model, path)


@pytest.fixture(scope="module")
def run(case_folder, weight_file):
    """The case with its loaded model and a forward pass of the middle branch."""
    case = ParityCase(case_folder)
    path = weight_file(case)
    model, report = build(case, path, test_branch=1)
    images = case.rgb_images()
    with torch.no_grad():
        batch, sizes = model.preprocess(images)
        pyramid = model.pyramid(batch)
    return SimpleNamespace(**locals())


def test_every_tensor_is_loaded(run):
    assert run.report.complete, run.report.summary()
    assert run.report.loaded == len(run.case.spec["parameters"])


def test_the_image_is_not_padded(run):
    size = run.case.spec["image"]
    assert tuple(run.batch.shape[-2:]) == (size["height"], size["width"])


def test_features_of_one_branch_and_of_all(run):
    run.case.assert_close("res4", run.pyramid["p4"])
    backbone = run.model.backbone
    run.case.train(backbone)
    with torch.no_grad():
        every = backbone(run.batch)["res4"]
    backbone.eval()
    assert len(every) == 3
    for branch, features in enumerate(every):
        run.case.assert_close(f"res4_branch{branch}", features[None])


def test_proposals(run):
    rpn, golden = run.model.head.rpn, run.case.golden
    with torch.no_grad():
        (logits,), (deltas,) = rpn(run.pyramid)
        (proposals,), _ = rpn.propose(run.pyramid, run.sizes)
        (anchors,) = rpn.anchors([logits])
    run.case.assert_close("rpn_logits", logits)
    run.case.assert_close("rpn_deltas", deltas)
    run.case.assert_equal("anchors", anchors[: len(golden["anchors"])], golden["anchors"], 1e-6)
    assert (pair(box_errors(golden["proposals_boxes"], proposals) <= 0.01) >= 0).all()
    assert len(proposals) == golden["proposals_count"]


def test_head_on_fixed_boxes(run):
    box, boxes = run.model.head.box, [torch.from_numpy(run.case.golden["fixed_boxes"])]
    with torch.no_grad():
        pooled = box.pool(maps_for_pooling(run.pyramid, ["p4"]), boxes)
        logits, deltas = box.predict(pooled)
        features = run.model.backbone.res5(pooled)
    run.case.assert_close("fixed_box_features", features)
    run.case.assert_close("fixed_logits", logits)
    run.case.assert_close("fixed_deltas", deltas.flatten(1))


def test_detections_of_the_middle_branch(run):
    with torch.no_grad():
        (found,) = run.model(run.images)
    run.case.assert_detections(0, 1, found)


def test_detections_of_all_branches(run):
    """Merged without ranges, as the reference has none."""
    threshold = run.case.spec["score_threshold_test_of_all_branches"]
    model, _ = build(run.case, run.path, test_branch=None, threshold=threshold)
    with torch.no_grad():
        (found,) = model(run.images)
    golden = run.case.golden
    stored = Detections(*(torch.from_numpy(golden[f"all_{what}"]) for what in ("boxes", "scores", "classes")))
    errors = {
        "boxes": box_errors(stored.boxes.numpy(), found.boxes),
        "scores": np.abs(stored.scores.numpy()[:, None] - found.scores.numpy()),
    }
    same = stored.labels.numpy()[:, None] == found.labels.numpy()
    run.case.assert_rows("detections of all branches", errors, same, 0)


def test_training_losses_and_gradients(run, monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    run.case.train(run.model)
    losses = run.model(run.images, run.case.targets(1))
    run.model.eval()
    run.case.assert_losses(losses)
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    run.case.assert_gradients(parameters)
    assert [name for name, p in parameters.items() if p.requires_grad and p.grad is None] == []
    frozen = {name.split(".")[2] for name, p in parameters.items() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}
    assert (
        to_ours("roi_heads.res5.0.shortcut.norm.weight") == "backbone.body.layer4.0.downsample.0.norm.weight"
    )
