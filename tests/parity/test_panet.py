"""PANet against its authors' pyramid and heads, put into detectron2's Mask R-CNN; norms are the paper's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity_cases import ParityCase, box_errors, pair
from parity_configs import panet_config

from srfgan.models import build_detector
from srfgan.models.ops.pooling import maps_for_pooling
from srfgan.models.weights.load import load_tensors
from srfgan.models.weights.names import rename, to_ours

KINDS = ("panet",)

AUTHORS = (
    ("Conv_Body.conv_top.0.", "neck.lateral.p5."),
    ("Conv_Body.conv_top.1.", "neck.lateral.p5.norm."),
    *(
        row
        for place in range(4)
        for row in (
            (f"Conv_Body.topdown_lateral_modules.{place}.conv_lateral.0.", f"neck.lateral.p{4 - place}."),
            (
                f"Conv_Body.topdown_lateral_modules.{place}.conv_lateral.1.",
                f"neck.lateral.p{4 - place}.norm.",
            ),
            (f"Conv_Body.posthoc_modules.{place}.0.", f"neck.output.p{5 - place}."),
            (f"Conv_Body.posthoc_modules.{place}.1.", f"neck.output.p{5 - place}.norm."),
            (f"Conv_Body.panet_buttomup_conv1_modules.{place}.0.", f"neck.downsample.p{place + 3}."),
            (f"Conv_Body.panet_buttomup_conv1_modules.{place}.1.", f"neck.downsample.p{place + 3}.norm."),
            (f"Conv_Body.panet_buttomup_conv2_modules.{place}.0.", f"neck.path_output.p{place + 3}."),
            (f"Conv_Body.panet_buttomup_conv2_modules.{place}.1.", f"neck.path_output.p{place + 3}.norm."),
            (f"Box_Head.convs.{3 * place}.", f"head.box.convs.{place}."),
            (f"Box_Head.convs.{3 * place + 1}.", f"head.box.convs.{place}.norm."),
            (f"Mask_Head.conv_fcn.{3 * place}.", f"head.mask.convs.{place}."),
            (f"Mask_Head.conv_fcn.{3 * place + 1}.", f"head.mask.convs.{place}.norm."),
        )
    ),
    ("Box_Head.conv1_head.{level}.0.", "head.box.first.layers.{level}."),
    ("Box_Head.conv1_head.{level}.1.", "head.box.first.layers.{level}.norm."),
    ("Box_Head.fc.", "head.box.fcs.0."),
    ("Mask_Head.mask_conv1.{level}.0.", "head.mask.first.layers.{level}."),
    ("Mask_Head.mask_conv1.{level}.1.", "head.mask.first.layers.{level}.norm."),
    ("Mask_Head.mask_conv4.0.", "head.mask.convs.2."),
    ("Mask_Head.mask_conv4.1.", "head.mask.convs.2.norm."),
    ("Mask_Head.mask_conv4_fc.0.", "head.mask.foreground.convs.0."),
    ("Mask_Head.mask_conv4_fc.1.", "head.mask.foreground.convs.0.norm."),
    ("Mask_Head.mask_conv5_fc.0.", "head.mask.foreground.convs.1."),
    ("Mask_Head.mask_conv5_fc.1.", "head.mask.foreground.convs.1.norm."),
    ("Mask_Head.mask_fc.0.", "head.mask.foreground.fc."),
    ("Mask_Head.upconv.", "head.mask.up."),
    ("Mask_Outs.classify.", "head.mask.logits."),
)
"""The names of the authors' modules and ours; there the coarsest level comes first, but in the path."""


def ours(name):
    return rename(name, AUTHORS) or to_ours(name)


@pytest.fixture(scope="module")
def run(case_folder):
    """The case with its loaded model and a forward pass in evaluation mode."""
    case = ParityCase(case_folder)
    model = build_detector(panet_config(case.spec)).eval()
    weights = case.weights()
    # A bias that a norm takes away again; the reference has it, of zeros.
    useless = {name for name in weights if name.endswith(".0.bias") and "panet_buttomup" in name}
    assert all(not weights.pop(name).any() for name in useless)
    tensors = {ours(name): torch.from_numpy(values) for name, values in weights.items()}
    report = load_tensors(model, tensors, case.name, (), strict=True)
    images = case.rgb_images()
    with torch.no_grad():
        batch, sizes = model.preprocess(images)
        pyramid = model.pyramid(batch)
    return SimpleNamespace(**locals())


def test_every_tensor_is_loaded(run):
    assert run.report.loaded == len(run.weights)


def test_features(run):
    for level, feature in run.pyramid.items():
        run.case.assert_close(f"neck_{level}", feature)


def test_proposals(run):
    rpn = run.model.head.rpn
    with torch.no_grad():
        logits, deltas = rpn(run.pyramid)
        (proposals,), _ = rpn.propose(run.pyramid, run.sizes)
    for level, of_level, moves in zip(("p2", "p3", "p4"), logits, deltas, strict=False):
        run.case.assert_close(f"rpn_logits_{level}", of_level)
        run.case.assert_close(f"rpn_deltas_{level}", moves)
    best = run.case.golden["proposals_boxes"]
    assert (pair(box_errors(best, proposals) <= 0.01) >= 0).all()
    assert len(proposals) == run.case.golden["proposals_count"]


def test_heads_on_fixed_boxes(run):
    golden, head = run.case.golden, run.model.head
    maps, boxes = maps_for_pooling(run.pyramid, head.pool_levels), [torch.from_numpy(golden["fixed_boxes"])]
    with torch.no_grad():
        logits, deltas = head.box(maps, boxes)
        some = [boxes[0][: len(golden["fixed_mask_logits"])]]
        classes = range(0, run.model.config.num_classes, 16)
        masks = [head.mask(maps, some, torch.full((len(some[0]),), k)) for k in classes]
    run.case.assert_close("fixed_logits", logits)
    run.case.assert_close("fixed_deltas", deltas.flatten(1))
    run.case.assert_close("fixed_mask_logits", torch.stack(masks, dim=1))


def test_detections(run):
    with torch.no_grad():
        (found,) = run.model.detect(run.images)
    partner = run.case.assert_detections(0, 1, found)
    stored = run.case.golden["det_masks"]
    error = np.abs(found.mask_probs[partner[: len(stored)]].numpy() - stored).max()
    run.case.check("scores", "det_masks", error)


def test_training_losses_and_gradients(run, monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    run.case.train(run.model)
    losses = run.model(run.images, run.case.targets(1, masks=True))
    run.model.eval()
    run.case.assert_losses(losses)
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    run.case.assert_gradients(
        {
            to_ours(theirs): parameters[ours(theirs)]
            for theirs in run.case.spec["parameters"]
            if ours(theirs) in parameters
        }
    )
    assert [name for name, p in parameters.items() if p.requires_grad and p.grad is None] == []
