"""RetinaNet and FCOS against detectron2, AdelaiDet and SRF-GAN, weights loaded from their own formats."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity_cases import ParityCase, box_errors, score_errors
from parity_configs import config_of

from srfgan.models import build_detector
from srfgan.models.ops.anchors import flatten_map
from srfgan.models.ops.boxes import decode_boxes
from srfgan.models.ops.fcos_targets import fcos_locations, fcos_targets
from srfgan.models.weights import load_weights
from srfgan.models.weights.names import to_detectron2, to_ours

KINDS = ("one_stage",)
LEVELS = ["p3", "p4", "p5", "p6", "p7"]


@pytest.fixture(scope="module")
def run(case_folder, weight_file):
    """One case with its loaded model and a forward pass in evaluation mode."""
    case = ParityCase(case_folder)
    config = config_of(case.spec)
    model = build_detector(config).eval()
    report = load_weights(model, weight_file(case))
    images = case.rgb_images()
    count = len(images)
    calls = []
    hook = model.neck.upsample.register_forward_hook(lambda *args: calls.append(args[-1]))
    with torch.no_grad():
        batch, sizes = model.preprocess(images)
        pyramid = model.pyramid(batch)
    hook.remove()
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
            run.case.assert_close(f"neck_{level}", run.pyramid[level])
    steps = run.config.neck.bifpn.repeats * 4 if run.config.neck.name == "bifpn" else 2
    assert len(run.calls) == steps, "two steps down from p5 to p3, or four from p7 in each layer"
    if "srf_of_lateral5" in run.case.golden:
        run.case.assert_close("srf_of_lateral5", run.calls[0])


def test_retinanets_maps_anchors_and_candidates(run, monkeypatch):
    if run.config.detector != "retinanet" or "head_deltas_p3" not in run.case.golden:
        pytest.skip("FCOS, or a case that stores no maps of the head")
    head, golden = run.model.head, run.case.golden
    with torch.no_grad():
        logits, deltas = head.subnets(run.pyramid)
    anchors = head.anchors(logits)
    every = run.config.inference.model_copy(update={"score_threshold": 0.0})
    monkeypatch.setattr(head, "inference", every)
    classes = run.config.num_classes
    for index, level in enumerate(LEVELS):
        if f"head_logits_{level}" in golden:
            run.case.assert_close(f"head_logits_{level}", logits[index])
        run.case.assert_close(f"head_deltas_{level}", deltas[index])
        stored = golden[f"anchors_{level}"]
        run.case.assert_equal(f"anchors_{level}", anchors[index][: len(stored)], stored, 1e-6)
        for image in range(run.count):
            if not run.case.has(f"candidates_scores_{level}"):
                continue
            scores = flatten_map(logits[index], classes)[image].sigmoid()
            moves, starts, best, labels = head.candidates(
                scores, flatten_map(deltas[index], 4)[image], anchors[index]
            )
            boxes = decode_boxes(moves, starts, (1.0, 1.0, 1.0, 1.0))
            # Of equal scores, the first of the reference's may stand anywhere.
            wanted = {
                key: run.case.of_image(f"candidates_{key}_{level}", image, run.count)
                for key in ("scores", "boxes", "classes")
            }
            errors = {
                "boxes": box_errors(wanted["boxes"], boxes),
                "scores": score_errors(wanted["scores"], best),
            }
            equal = wanted["classes"][:, None] == labels.numpy()
            # There are more of ours than the best ones that are stored.
            fits = (errors["boxes"] <= run.case.tolerance("boxes")) & (errors["scores"] <= 1e-4) & equal
            missing = int((~fits.any(axis=1)).sum())
            assert missing <= run.case.may_miss, f"{missing} of the reference's best candidates of {level}"


def test_fcos_maps(run):
    if "ctrness_p3" not in run.case.golden:
        pytest.skip("this case stores no maps of FCOS")
    with torch.no_grad():
        maps = run.model.head.fcos(run.pyramid)
    for index, level in enumerate(LEVELS):
        run.case.assert_close(f"cls_logits_{level}", maps.logits[index])
        run.case.assert_close(f"bbox_reg_{level}", maps.sides[index])
        run.case.assert_close(f"ctrness_{level}", maps.centerness[index])


def test_fcos_targets(run):
    case = run.case
    if not case.has("train_labels"):
        pytest.skip("this case stores no targets")
    classes = run.config.num_classes
    locations = fcos_locations(list(run.pyramid.values()))
    found = fcos_targets(locations, case.targets(run.count), run.config.fcos.sizes_of_interest, classes)
    for index, (labels, sides) in enumerate(zip(*found, strict=True)):
        wanted = case.of_image("train_labels", index, run.count)
        np.testing.assert_array_equal(labels.numpy(), wanted)
        positive = wanted < classes
        per_level = case.spec["training_check"].get("positives_per_level")
        assert run.count > 1 or per_level is None or positive.sum() == sum(per_level)
        stored = case.of_image("train_reg_targets", index, run.count)
        np.testing.assert_allclose(sides.numpy()[positive], stored[positive], rtol=1e-5)


def test_detections(run):
    with torch.no_grad():
        detections = run.model(run.images)
    for index, found in enumerate(detections):
        run.case.assert_detections(index, run.count, found)


def test_training_losses_and_gradients(run):
    run.case.train(run.model)
    losses = run.model(run.images, run.case.targets(run.count))
    run.model.eval()
    run.case.assert_losses(losses)
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    # Below max-pools, rounding decides which of two equal pixels gets the gradient.
    pooled = run.config.neck.name == "bifpn"
    run.case.assert_gradients(
        parameters, lambda name: 1e-2 if pooled and name.startswith("backbone.") else None
    )
    trainable = [name for name, p in parameters.items() if p.requires_grad]
    assert [name for name in trainable if parameters[name].grad is None] == []
