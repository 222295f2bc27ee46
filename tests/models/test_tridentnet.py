"""TridentNet's own rules: shared weights at several dilations, and a range of sizes for each branch.

Scale-aware training has no published code that runs here; it is held to references in plain PyTorch, written from the
paper's section 4.2 and from what its authors' code leaves out of each branch.
"""

import copy
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config
from pydantic import ValidationError
from torchvision.ops import batched_nms

from srfgan.models import Target, build_detector
from srfgan.models.heads import rpn as rpn_module
from srfgan.models.ops.boxes import box_iou
from srfgan.models.ops.matching import touches
from srfgan.models.ops.pooling import maps_for_pooling
from srfgan.models.weights.load import load_tensors

BOXES = torch.tensor([[4.0, 6.0, 20.0, 22.0], [5.0, 8.0, 60.0, 58.0]])
RANGES = [[0, 24.0], [12.0, 48.0], [30.0, None]]


def tiny(backbone="r10", **trident):
    return model_config(
        detector="tridentnet",
        num_classes=3,
        backbone={"name": backbone, "norm": "bn", "freeze_at": 0},
        anchors={"sizes": [8.0, 16.0, 32.0, 64.0]},
        trident={"ranges": RANGES} | trident,
        rpn={"post_nms_topk_train": 60, "post_nms_topk_test": 20},
        inference={"score_threshold": 0.1, "detections_per_image": 30},
    )


def built(**trident):
    """With random weights, but scores that differ."""
    torch.manual_seed(0)
    model = build_detector(tiny(**trident))
    with torch.no_grad():
        model.head.box.classes.weight.mul_(60)
        model.head.rpn.deltas.weight.mul_(20)
    return model


def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, height, width, generator=generator) * 255 for height, width in ((65, 71), (90, 64))]


def targets(*counts):
    return [Target(BOXES[:count], torch.tensor([0, 2])[:count]) for count in counts]


def side(boxes):
    return ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])).sqrt()


@pytest.mark.parametrize(("scale_aware", "counts"), list(product((True, False), ((2, 1), (0, 0)))))
def test_every_parameter_gets_a_gradient_whatever_the_targets(scale_aware, counts):
    model = built(scale_aware=scale_aware).train()
    losses = model(images(), targets(*counts))
    assert list(losses) == ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"]
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize(("backbone", "norm"), [("r10", "bn"), ("r50", "frozen_bn")])
def test_branches_are_plain_networks_of_one_dilation(backbone, norm):
    """Each branch is the ResNet whose res4 convolutions have that dilation and the same weights."""
    config = model_config(
        detector="tridentnet", backbone={"name": backbone, "norm": norm, "stride_in_1x1": False}
    )
    torch.manual_seed(0)
    network = build_detector(config).backbone.eval()
    x = torch.randn(2, 3, 65, 71)
    with torch.no_grad():
        every = network(x)["res4"].chunk(3)
        for dilation, found in zip((1, 2, 3), every, strict=True):
            plain = copy.deepcopy(network)
            for block in plain.body["layer3"]:
                dilated = block.conv2

                def convolve(y, conv=dilated, dilation=dilation):
                    y = F.conv2d(y, conv.weight, conv.bias, conv.stride, padding=dilation, dilation=dilation)
                    return conv.norm(y)

                block.conv2.forward = convolve
            maps = x
            for name, layer in plain.body.items():
                if name != "layer4":
                    maps = layer(maps)
            torch.testing.assert_close(found, maps, rtol=0, atol=1e-4 * float(maps.abs().max()))


def test_one_branch_detects_what_it_would_among_all():
    fast, every = built(test_branch=1).eval(), built(test_branch=None).eval()
    load_tensors(fast, every.state_dict(), "the other", (), strict=True)
    batch, _ = every.preprocess(images())
    with torch.no_grad():
        one, three = fast.pyramid(batch)["p4"], every.pyramid(batch)["p4"]
    assert len(one) == 2 and len(three) == 6
    torch.testing.assert_close(one, three[2:4])


def test_the_box_heads_res5_is_the_backbones():
    """It is listed once, moves with a copy, and learns."""
    model = copy.deepcopy(built())
    names = [name for name, _ in model.named_parameters()]
    assert not any("res5" in name for name in names) and len(names) == len(set(names))
    assert model.head.box._res5[0] is model.backbone.res5
    pooled = torch.randn(2, model.backbone.channels["res4"], 14, 14)
    before = model.head.box.predict(pooled)[0]
    with torch.no_grad():
        next(model.backbone.body["layer4"].parameters()).add_(0.1)
    assert not torch.equal(before, model.head.box.predict(pooled)[0])


def test_a_branch_proposes_only_boxes_of_its_range_in_training():
    model = built().train()
    batch, sizes = model.preprocess(images())
    pyramid = {"p4": model.pyramid(batch)["p4"].detach()}
    ranges = model.head._ranges(2, batch)
    assert ranges.tolist() == [[0, 24], [0, 24], [12, 48], [12, 48], [30, torch.inf], [30, torch.inf]]
    every, _ = model.head.rpn.propose(pyramid, sizes * 3)
    found, _ = model.head.rpn.propose(pyramid, sizes * 3, ranges=ranges)
    together = model.head.rpn._suppress_together
    model.head.rpn._suppress_each = together  # a GPU's way
    same, _ = model.head.rpn.propose(pyramid, sizes * 3, ranges=ranges)
    assert any(len(part) < len(whole) for part, whole in zip(found, every, strict=True))
    for boxes, other, (low, high) in zip(found, same, ranges, strict=True):
        assert ((side(boxes) >= low) & (side(boxes) <= high)).all()
        torch.testing.assert_close(boxes, other)


def test_anchors_on_objects_of_other_branches_teach_nothing(monkeypatch):
    """The labels that the RPN samples from, against the rule written out."""
    seen = []

    def sample(labels, *_, **__):
        seen.extend(labels)
        return [(torch.zeros(0, dtype=torch.int64),) * 2 for _ in labels]

    monkeypatch.setattr(rpn_module, "sample_candidates", sample)
    model = built().train()
    model.losses(images(), targets(2, 1))
    aware = list(seen)
    seen.clear()
    model.head.config = model.head.config.model_copy(update={"scale_aware": False})
    model.losses(images(), targets(2, 1))
    batch, _ = model.preprocess(images())
    (anchors,) = model.head.rpn.anchors([model.pyramid(batch)["p4"]])
    rows = [(truth, sides) for sides in RANGES for truth in (BOXES, BOXES[:1])]
    for labels, unaware, (truth, (low, high)) in zip(aware, seen, rows, strict=True):
        foreign = [box for box in truth if side(box) < low or (high is not None and side(box) > high)]
        expected = unaware.clone()
        for box in foreign:
            expected[box_iou(box[None], anchors)[0] > 0.3] = -1
        assert torch.equal(labels, expected)
    assert any(not torch.equal(one, other) for one, other in zip(aware, seen, strict=True))


def test_touching_nothing():
    assert not touches(torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool), BOXES, above=0.3).any()
    assert touches(BOXES, torch.tensor([True, False]), BOXES, above=0.3).tolist() == [True, False]


@pytest.mark.parametrize("scale_aware", [True, False])
def test_detections_of_all_branches_are_each_ones_of_its_range_merged(scale_aware):
    model = built(scale_aware=scale_aware).eval()
    with torch.no_grad():
        found = model(images())
        batch, sizes = model.preprocess(images())
        pyramid = model.pyramid(batch)
        proposals, _ = model.head.rpn.propose(pyramid, sizes * 3)
        logits, deltas = model.head.box(maps_for_pooling(pyramid, ["p4"]), proposals)
        counts = [len(part) for part in proposals]
        scores = logits.softmax(-1)[:, :3].split(counts)
        moved = model.head.box.refine(deltas, proposals, sizes * 3)
    outside = 0
    for image, detections in enumerate(found):
        boxes, best, labels = [], [], []
        for branch, (low, high) in enumerate(RANGES):
            part, of_part = moved[2 * branch + image], scores[2 * branch + image]
            passing = of_part > 0.1
            if scale_aware:
                inside = (side(part) >= low) & (side(part) <= (high or torch.inf))
                outside += int((passing & ~inside).sum())
                passing = passing & inside
            row, label = passing.nonzero(as_tuple=True)
            keep = batched_nms(part[row, label], of_part[row, label], label, 0.5)[:30]
            boxes.append(part[row, label][keep])
            best.append(of_part[row, label][keep])
            labels.append(label[keep])
        boxes, best, labels = torch.cat(boxes), torch.cat(best), torch.cat(labels)
        keep = batched_nms(boxes, best, labels, 0.5)[:30]
        torch.testing.assert_close(detections.boxes, boxes[keep])
        torch.testing.assert_close(detections.scores, best[keep])
        assert detections.labels.tolist() == labels[keep].tolist()
    assert sum(map(len, found)) > 0
    assert outside > 0 or not scale_aware


def test_ranges_and_anchors_follow_the_size_of_images():
    scaled = tiny().scaled(0.5)
    assert scaled.trident.ranges == [[0, 12.0], [6.0, 24.0], [15.0, None]]
    assert scaled.anchors.sizes == [4.0, 8.0, 16.0, 32.0]


@pytest.mark.parametrize(
    ("trident", "message"),
    [
        ({"dilations": [1, 2]}, "one range for each of its 2 dilations, got 3"),
        (
            {"ranges": [[0, 9.0], [9.0, 5.0], [5.0, None]]},
            r"smallest side must be below its largest, got \(9",
        ),
        ({"test_branch": 3}, "the branches are 0 to 2, got 3"),
    ],
)
def test_branches_that_cannot_be_are_refused(trident, message):
    with pytest.raises(ValidationError, match=message):
        tiny(**trident)


@pytest.mark.parametrize("backbone", ["s101", "swin_t", "timm/convnext_atto"])
def test_a_backbone_without_such_convolutions_is_refused(backbone):
    with pytest.raises(ValidationError, match=f"dilates the 3x3 convolutions .*, got {backbone}"):
        tiny(backbone)
