"""ATSS against mmdetection's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdetection_names import ATSS, ours
from parity_cases import ParityCase

from srfgan.models import build_detector
from srfgan.models.ops.atss_targets import atss_targets
from srfgan_cli.presets import load_preset

KINDS = ("atss",)


@pytest.fixture(scope="module")
def run(case_folder):
    """The case, the preset's model with the weights, and its maps in evaluation mode."""
    case = ParityCase(case_folder)
    names = {name: ours(name, ATSS) for name in case.spec["parameters"]}
    mean, std = case.spec["pixel_mean"], case.spec["pixel_std"]
    changes = [
        "model.backbone.name=r50",
        "model.backbone.stride_in_1x1=false",
        f"model.pixel={{order: RGB, mean: {mean}, std: {std}}}",
        f"model.inference.score_threshold={case.spec['score_threshold_test']}",
    ]
    model = build_detector(load_preset("atss_r101_fpn_nn", changes).model).eval()
    weights = {names[name]: np.atleast_1d(values) for name, values in case.weights().items()}
    model.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    images = case.rgb_images()
    with torch.no_grad():
        pyramid = model.pyramid(model.preprocess(images)[0])
        maps = model.head.towers(pyramid)
    return SimpleNamespace(**locals())


def test_pyramid_and_maps(run):
    for index, (level, feature) in enumerate(run.pyramid.items()):
        run.case.assert_close(f"neck_{level}", feature)
        run.case.assert_close(f"cls_logits_{level}", run.maps.logits[index])
        run.case.assert_close(f"box_deltas_{level}", run.maps.sides[index])
        run.case.assert_close(f"ctrness_{level}", run.maps.centerness[index])


def test_each_object_has_the_references_positives(run):
    golden = run.case.golden
    anchors = run.model.head.anchors(run.maps)
    (labels,), (boxes,) = atss_targets(anchors, run.case.targets(1), 9, 80)
    rows = np.flatnonzero(labels.numpy() < 80)
    np.testing.assert_array_equal(rows, golden["train_rows"])
    np.testing.assert_array_equal(labels.numpy()[rows], golden["train_classes"])
    np.testing.assert_array_equal(boxes.numpy()[rows], golden["train_boxes"])


def test_detections(run):
    with torch.no_grad():
        (found,) = run.model(run.images)
    run.case.assert_detections(0, 1, found)


def test_training_losses_and_gradients(run):
    run.case.train(run.model)
    losses = run.model(run.images, run.case.targets(1))
    run.model.eval()
    theirs = {"loss_box_reg": "loss_bbox"}
    run.case.assert_losses({theirs.get(name, name): loss for name, loss in losses.items()})
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    run.case.assert_gradients(dict(run.model.named_parameters()), named=run.names.__getitem__)
