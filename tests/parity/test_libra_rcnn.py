"""Libra R-CNN against mmdetection's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdetection_names import LIBRA, ours
from parity_cases import ParityCase, box_errors, pair, score_errors

from srfgan.models import build_detector
from srfgan.models.ops.pooling import maps_for_pooling
from srfgan_cli.presets import load_preset

KINDS = ("libra_rcnn",)
PROPOSALS = 0.01
"""Pixels."""


@pytest.fixture(scope="module")
def run(case_folder):
    """The case, the preset's model with the weights, and a forward pass in evaluation mode."""
    case = ParityCase(case_folder)
    names = {name: ours(name, LIBRA) for name in case.spec["parameters"]}
    changes = [f"model.inference.score_threshold={case.spec['score_threshold_test']}"]
    model = build_detector(load_preset("libra_rcnn_r50_fpn_nn", changes).model).eval()
    model.load_state_dict({names[name]: torch.from_numpy(x) for name, x in case.weights().items()})
    images = case.rgb_images()
    with torch.no_grad():
        batch, sizes = model.preprocess(images)
        plain = model.pyramid(batch)
        pyramid = model.head.balance(plain)
    return SimpleNamespace(**locals())


def test_plain_and_balanced_pyramid(run):
    refine, balanced = run.model.head.balance.refine, []
    hook = refine.register_forward_hook(lambda module, given, made: balanced.extend([*given, made]))
    with torch.no_grad():
        run.model.head.balance(run.plain)
    hook.remove()
    run.case.assert_close("balanced", balanced[0])
    run.case.assert_close("refined", balanced[1])
    for level, feature in run.pyramid.items():
        run.case.assert_close(f"neck_plain_{level}", run.plain[level])
        run.case.assert_close(f"neck_{level}", feature)


def test_proposals_and_box_head(run):
    case, golden, head = run.case, run.case.golden, run.model.head
    with torch.no_grad():
        logits, deltas = head.rpn(run.pyramid)
        (proposals,), _ = head.rpn.propose(run.pyramid, run.sizes)
        maps = maps_for_pooling(run.pyramid, head.pool_levels)
        fixed_logits, fixed_deltas = head.box(maps, [torch.from_numpy(golden["fixed_boxes"])])
    for index, level in enumerate(run.pyramid):
        case.assert_close(f"rpn_logits_{level}", logits[index])
        case.assert_close(f"rpn_deltas_{level}", deltas[index])
    assert (pair(box_errors(golden["proposals_boxes"], proposals) <= PROPOSALS) >= 0).all()
    assert len(proposals) == golden["proposals_count"]
    case.assert_close("fixed_logits", fixed_logits)
    case.assert_close("fixed_deltas", fixed_deltas.flatten(1)[:, :40])


def test_detections(run):
    with torch.no_grad():
        (found,) = run.model(run.images)
    run.case.assert_detections(0, 1, found)


def test_samples_losses_and_gradients(run, monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    case, golden, head = run.case, run.case.golden, run.model.head
    sample, sampled = head.box.sample, []
    monkeypatch.setattr(head.box, "sample", lambda *given: sampled.extend(sample(*given)) or sampled)
    case.train(run.model)
    losses = run.model(run.images, case.targets(1))
    run.model.eval()
    assert len(sampled[0].boxes) == len(golden["train_sampled_boxes"])
    fits = box_errors(golden["train_sampled_boxes"], sampled[0].boxes) <= PROPOSALS
    fits &= score_errors(golden["train_sampled_classes"], sampled[0].labels) == 0
    assert fits.any(axis=0).all() and fits.any(axis=1).all()
    overlaps = case.spec["training_check"]["counts"]["negatives_by_iou"]
    assert np.min(list(overlaps.values())[1:]) > 30, "a case with negatives in each bin"
    theirs = {"loss_rpn_loc": "loss_rpn_bbox", "loss_box_reg": "loss_bbox"}
    case.assert_losses({theirs.get(name, name): loss for name, loss in losses.items()})
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    case.assert_gradients(dict(run.model.named_parameters()), named=run.names.__getitem__)
