"""The presets' RetinaNet and FCOS against detectron2, AdelaiDet and SRF-GAN, weights loaded from their own formats."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models import Target, build_detector
from models.ops.anchors import flatten_map
from models.ops.fcos_targets import fcos_locations, fcos_targets
from models.weights import load_weights
from models.weights.names import to_detectron2, to_ours
from srfgan_cli.presets import load_preset

LEVELS = ["p3", "p4", "p5", "p6", "p7"]
CASES = {
    "d2_retinanet_r50_fpn": "retinanet_r50_fpn_nn",
    "adet_fcos_r50_fpn": "fcos_r50_fpn_nn",
    "srfgan_fcos_r50_fpn": "fcos_r50_fpn",
    "adet_fcos_r50_bifpn": "fcos_r50_bifpn_nn",
}


@pytest.fixture(scope="module", params=CASES)
def run(request, load_case, weight_file):
    """One case with its loaded model and a forward pass in evaluation mode."""
    case = load_case(request.param)
    threshold = f"model.inference.score_threshold={case.spec['score_threshold_test']}"
    config = load_preset(CASES[request.param], [threshold]).model
    model = build_detector(config).eval()
    report = load_weights(model, weight_file(case))
    image = case.rgb_image()
    calls = []
    hook = model.neck.upsample.register_forward_hook(lambda *args: calls.append(args[-1]))
    with torch.no_grad():
        batch, sizes = model.preprocess([image])
        pyramid = model.pyramid(batch)
    hook.remove()
    target = Target(torch.from_numpy(case.golden["gt_boxes"]), torch.from_numpy(case.golden["gt_classes"]))
    return SimpleNamespace(**locals())


def test_every_tensor_is_loaded_and_named_as_there(run):
    assert run.report.complete, run.report.summary()
    assert run.report.loaded == len(run.case.spec["parameters"])
    wiring = "adelaidet" if run.config.neck.name == "bifpn" else None
    for name in run.case.spec["parameters"]:
        # Under its BiFPN, AdelaiDet has the backbone one name deeper than everybody.
        assert to_detectron2(to_ours(name), wiring) == name.replace("bottom_up.backbone.", "bottom_up.")


def test_pyramid(run):
    assert list(run.pyramid) == LEVELS
    for level in LEVELS:
        if f"neck_{level}" in run.case.golden:
            run.case.assert_close(f"neck_{level}", run.pyramid[level][:, ::16])
    steps = 6 * 4 if run.config.neck.name == "bifpn" else 2
    assert len(run.calls) == steps, "two steps down from p5 to p3, or four from p7 in each of six layers"
    if "srf_of_lateral5" in run.case.golden:
        run.case.assert_close("srf_of_lateral5", run.calls[0][:, ::16])


def test_retinanets_maps_anchors_and_candidates(run):
    if run.config.detector != "retinanet":
        pytest.skip("FCOS")
    head, golden = run.model.head, run.case.golden
    with torch.no_grad():
        logits, deltas = head.subnets(run.pyramid)
    anchors = head.anchors(logits)
    head.inference = run.config.inference.model_copy(update={"score_threshold": 0.0})
    for index, level in enumerate(LEVELS):
        if f"head_logits_{level}" in golden:
            run.case.assert_close(f"head_logits_{level}", logits[index][:, ::8])
        run.case.assert_close(f"head_deltas_{level}", deltas[index])
        run.case.assert_close(f"anchors_{level}", anchors[index][:36], 1e-6)
        scores = flatten_map(logits[index], 80)[0].sigmoid()
        boxes, best, labels = head.candidates(scores, flatten_map(deltas[index], 4)[0], anchors[index])
        order = best.argsort(descending=True)[:20]
        np.testing.assert_allclose(best[order].numpy(), golden[f"candidates_scores_{level}"], atol=1e-4)
        np.testing.assert_allclose(boxes[order].numpy(), golden[f"candidates_boxes_{level}"], atol=0.05)
        np.testing.assert_array_equal(labels[order].numpy(), golden[f"candidates_classes_{level}"])
    head.inference = run.config.inference


def test_fcos_maps(run):
    if "ctrness_p3" not in run.case.golden:
        pytest.skip("this case stores no maps of FCOS")
    with torch.no_grad():
        maps = run.model.head.fcos(run.pyramid)
    for index, level in enumerate(LEVELS):
        run.case.assert_close(f"cls_logits_{level}", maps.logits[index][:, ::8])
        run.case.assert_close(f"bbox_reg_{level}", maps.sides[index])
        run.case.assert_close(f"ctrness_{level}", maps.centerness[index])


def test_fcos_targets(run):
    golden = run.case.golden
    if "train_labels" not in golden:
        pytest.skip("this case stores no targets")
    locations = fcos_locations(list(run.pyramid.values()))
    labels, sides = fcos_targets(locations, [run.target], run.config.fcos.sizes_of_interest, 80)
    np.testing.assert_array_equal(labels[0].numpy(), golden["train_labels"])
    positive = golden["train_labels"] < 80
    assert positive.sum() == 30
    np.testing.assert_allclose(sides[0].numpy()[positive], golden["train_reg_targets"][positive], rtol=1e-5)


def test_detections(run):
    golden = run.case.golden
    with torch.no_grad():
        found = run.model([run.image])[0]
    assert len(found) == len(golden["det_boxes"])
    near = np.abs(found.boxes.numpy()[None] - golden["det_boxes"][:, None]).max(-1) <= 0.05
    near &= np.abs(found.scores.numpy()[None] - golden["det_scores"][:, None]) <= 1e-3
    near &= found.labels.numpy()[None] == golden["det_classes"][:, None]
    assert near.any(axis=1).all(), "a detection of the reference is missing"


def test_training_losses_and_gradients(run):
    expected = run.case.spec["training_check"]
    run.case.train(run.model)
    losses = run.model([run.image], [run.target])
    run.model.eval()
    assert set(losses) == set(expected["losses"])
    for name, value in expected["losses"].items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    for name, value in expected["gradient_norms"].items():
        # Below max-pools, rounding decides which of two equal pixels gets the gradient.
        pooled = run.config.neck.name == "bifpn" and name.startswith("backbone.")
        norm = parameters[to_ours(name)].grad.norm().item()
        assert norm == pytest.approx(value, rel=1e-2 if pooled else 1e-3), name
    trainable = [name for name, p in parameters.items() if p.requires_grad]
    assert [name for name in trainable if parameters[name].grad is None] == []
