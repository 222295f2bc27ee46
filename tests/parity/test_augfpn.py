"""AugFPN against its authors' modules, in a Mask R-CNN of mmdetection's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdetection_names import AUGFPN, ours
from parity_cases import ParityCase, box_errors, pair

from srfgan.models import build_detector
from srfgan.models.ops.pooling import maps_for_pooling
from srfgan_cli.presets import load_preset

KINDS = ("augfpn",)
PROPOSALS = 0.01
"""Pixels."""


@pytest.fixture(scope="module")
def run(case_folder):
    """The case, the preset's model with the weights, and a forward pass in evaluation mode."""
    case = ParityCase(case_folder)
    names = {name: ours(name, AUGFPN) for name in case.spec["parameters"]}
    changes = [f"model.inference.score_threshold={case.spec['score_threshold_test']}"]
    model = build_detector(load_preset("mask_rcnn_r50_augfpn_nn", changes).model).eval()
    model.load_state_dict({names[name]: torch.from_numpy(x) for name, x in case.weights().items()})
    images = case.rgb_images()
    with torch.no_grad():
        batch, sizes = model.preprocess(images)
        pyramid = model.pyramid(batch)
    return SimpleNamespace(**locals())


def test_pyramid_and_the_maps_before_fusion(run):
    assert list(run.pyramid) == ["p2", "p3", "p4", "p5", "p6"]
    for level, feature in run.pyramid.items():
        run.case.assert_close(f"neck_{level}", feature)
    with torch.no_grad():
        features = run.model.backbone(run.batch)
        run.model.neck.train()
        training = run.model.neck(features)
        run.model.neck.eval()
    assert list(training) == [*run.pyramid, "m2", "m3", "m4", "m5"]
    for level in (2, 3, 4, 5):
        run.case.assert_close(f"neck_raw_p{level}", training[f"m{level}"])


def test_soft_selection_and_heads(run):
    check, golden, head = run.case.assert_close, run.case.golden, run.model.head
    boxes = [torch.from_numpy(golden["fixed_boxes"])]
    with torch.no_grad():
        (proposals,), _ = head.rpn.propose(run.pyramid, run.sizes)
        maps = maps_for_pooling(run.pyramid, head.pool_levels)
        check("fixed_box_pooled", head.box.pool(maps, boxes))
        check("fixed_mask_pooled", head.mask.selection(maps, boxes, 14))
        logits, deltas = head.box(maps, boxes)
        masks = [head.mask(maps, boxes, torch.full((len(boxes[0]),), k)) for k in range(2)]
    check("fixed_logits", logits)
    check("fixed_deltas", deltas.flatten(1)[:, :40])
    check("fixed_mask_logits", torch.stack(masks, dim=1))
    assert (pair(box_errors(golden["proposals_boxes"], proposals) <= PROPOSALS) >= 0).all()
    assert len(proposals) == golden["proposals_count"]


def test_detections(run):
    with torch.no_grad():
        (found,) = run.model(run.images)
    partner = run.case.assert_detections(0, 1, found)
    stored = run.case.golden["det_masks"]
    error = np.abs(found.mask_probs[partner[: len(stored)]].numpy() - stored).max()
    run.case.check("scores", "det_masks", error)


def test_losses_before_and_after_fusion_and_gradients(run, monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    run.case.train(run.model)
    losses = run.model(run.images, run.case.targets(1, masks=True))
    run.model.eval()
    run.case.assert_losses(losses)
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    run.case.assert_gradients(parameters, named=run.names.__getitem__)
    trainable = [name for name, p in parameters.items() if p.requires_grad]
    assert [name for name in trainable if parameters[name].grad is None] == []
