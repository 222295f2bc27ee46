"""Libra R-CNN's parts against what the paper says of them, one sample and one place at a time."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config

from srfgan.models import Target, build_detector
from srfgan.models.necks.balanced import BalancedPyramid, NonLocal
from srfgan.models.ops.balanced_sampling import sample_balanced
from srfgan.models.ops.boxes import box_iou
from srfgan.models.ops.graph_pooling import graph_max_pool
from srfgan.models.ops.losses import balanced_l1_sum
from srfgan.models.ops.matching import match_boxes

OBJECTS = torch.tensor([[0.0, 0, 100, 100], [200, 0, 300, 100], [0, 200, 100, 300]])


def candidates() -> torch.Tensor:
    """Boxes of the objects' size beside the objects: of many overlaps, and some of none."""
    shifts = torch.cat([torch.arange(0.0, 30, 2), torch.arange(36.0, 99, 3), torch.full((60,), 500.0)])
    first = OBJECTS[:1] + torch.stack([shifts, shifts * 0, shifts, shifts * 0], dim=1)
    few = OBJECTS[1:, None] + torch.tensor([[0.0, 0, 0, 0], [5, 0, 5, 0], [0, 5, 0, 5]])
    return torch.cat([first, few.flatten(0, 1)])


def sampled(boxes, count, fraction):
    target = Target(OBJECTS, torch.tensor([0, 1, 2]))
    match = match_boxes(OBJECTS, boxes, negative_below=0.5, positive_from=0.5, rescue=False)
    ((positive, negative),) = sample_balanced([boxes], [target], [match], count, fraction, iou_bins=3)
    return positive, negative, match[0]


def test_positives_are_dealt_out_to_the_objects_in_turn():
    boxes = candidates()
    positive, _, index = sampled(boxes, 40, 0.2)
    assert len(set(positive.tolist())) == 8
    assert sorted(Counter(index[positive].tolist()).values()) == [2, 3, 3]
    positive, _, index = sampled(boxes, 40, 0.3)
    assert Counter(index[positive].tolist()) == {0: 6, 1: 3, 2: 3}, "two objects have no more"


def test_each_part_of_the_overlaps_gives_as_many_negatives():
    boxes = candidates()
    best = box_iou(OBJECTS, boxes).amax(dim=0)
    parts = [(best > 0) & (best < 1 / 3), (best >= 1 / 3) & (best < 0.5), best == 0]
    available = [int(part.sum()) for part in parts]
    assert available == [16, 5, 60]
    for wanted, expected in [(9, (3, 3)), (15, (10, 5)), (21, (16, 5)), (30, (16, 5))]:
        _, negative, _ = sampled(boxes, wanted, 0.0)
        assert len(set(negative.tolist())) == wanted
        low, high, without = (int(part[negative].sum()) for part in parts)
        if wanted == 9:  # a part of three has none: the rest is of any that overlap
            assert low >= 3 and high >= 3 and without == 0
        else:
            assert (low, high, without) == (*expected, wanted - sum(expected))


def test_an_image_without_objects_gives_negatives_at_random():
    boxes, empty = candidates(), Target(OBJECTS[:0], torch.zeros(0, dtype=torch.int64))
    match = match_boxes(empty.boxes, boxes, negative_below=0.5, positive_from=0.5, rescue=False)
    ((positive, negative),) = sample_balanced([boxes], [empty], [match], 16, 0.25, iou_bins=3)
    assert len(positive) == 0 and len(set(negative.tolist())) == 16


def test_the_balanced_l1_loss():
    """Equation 8 for small errors; beyond 1 the gradient is gamma, and nothing jumps."""
    errors = torch.tensor([-3.0, -1.0, -0.25, 0.0, 0.5, 0.999999, 1.000001, 20.0], requires_grad=True)
    alpha, gamma = 0.5, 1.5
    b = math.exp(gamma / alpha) - 1
    for error in errors:
        loss, x = balanced_l1_sum(error[None], torch.zeros(1), alpha=alpha, gamma=gamma), abs(error.item())
        inlier = alpha / b * (b * x + 1) * math.log(b * x + 1) - alpha * x
        assert loss.item() == pytest.approx(inlier if x < 1 else gamma * x + gamma / b - alpha, abs=1e-5)
    balanced_l1_sum(errors, torch.zeros(8), alpha=alpha, gamma=gamma).backward()
    steepness = [min(alpha * math.log(b * abs(x) + 1), gamma) for x in errors.tolist()]
    signs = [math.copysign(1, x) if x else 0 for x in errors.tolist()]
    assert errors.grad.tolist() == pytest.approx(
        [sign * size for sign, size in zip(signs, steepness, strict=True)], abs=1e-5
    )
    assert balanced_l1_sum(torch.zeros(0, 4), torch.zeros(0, 4), alpha=alpha, gamma=gamma) == 0


def test_a_place_sees_all_places():
    torch.manual_seed(0)
    block, x = NonLocal(6), torch.randn(2, 6, 3, 4)
    query, key, value = (conv(x).flatten(2) for conv in (block.query, block.key, block.value))
    seen = torch.zeros(2, 6, 12)
    for place in range(12):
        weights = (query[:, :, place, None] * key).sum(dim=1).softmax(dim=-1)  # no scale
        seen[:, :, place] = (value * weights[:, None]).sum(dim=-1)
    torch.testing.assert_close(block(x), x + block.out(seen.unflatten(2, (3, 4))))


def test_every_level_gets_the_mean():
    """With a refinement that adds nothing, constant maps rise by the mean of the levels."""
    balance = BalancedPyramid(8)
    torch.nn.init.zeros_(balance.refine.out.weight)
    sides = {"p2": (32, 40), "p3": (16, 20), "p4": (8, 10), "p5": (4, 5), "p6": (2, 3)}
    pyramid = {name: torch.full((1, 8, *size), float(name[1])) for name, size in sides.items()}
    balanced = balance(pyramid)
    assert list(balanced) == list(sides)
    for name, x in balanced.items():
        torch.testing.assert_close(x, pyramid[name] + 4)


@pytest.mark.parametrize("sides", [(32, 8), (24, 12), (10, 3), (26, 7), (2, 1), (5, 5)])
def test_a_graphs_pooling_is_torchs(sides):
    x = torch.randn(2, 3, sides[0], 2 * sides[0], generator=torch.Generator().manual_seed(0))
    size = (sides[1], 2 * sides[1])
    assert torch.equal(graph_max_pool(x, size), F.adaptive_max_pool2d(x, size))


@pytest.mark.parametrize("counts", [(2, 1), (0, 2), (0, 0)])
@pytest.mark.parametrize("neck", ["fpn", "bifpn"])
def test_every_parameter_gets_a_gradient_whatever_the_targets(neck, counts):
    torch.manual_seed(0)
    model = build_detector(
        model_config(
            detector="libra_rcnn",
            num_classes=3,
            backbone={"name": "r10", "norm": "bn", "freeze_at": 0},
            neck={"name": neck, "channels": 32, "upsampler": "srf", "bifpn": {"repeats": 1}},
            box_head={"fc_dim": 32},
        )
    ).train()
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0]])
    targets = [Target(boxes[:count], torch.tensor([0, 2])[:count]) for count in counts]
    images = [torch.randint(0, 256, (3, 65 + side, 71), dtype=torch.uint8) for side in (0, 30)]
    with torch.autocast("cpu", torch.bfloat16, enabled=counts == (0, 2)):
        losses = model(images, targets)
    assert list(losses) == ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"]
    sum(losses.values()).backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == []
    refine = model.head.balance.refine
    assert all(conv.weight.grad.abs().sum() > 0 for conv in (refine.query, refine.key, refine.value))


def test_the_rpn_learns_from_five_negatives_for_each_positive(monkeypatch):
    from srfgan.models.heads import rpn

    chosen, sample = [], rpn.sample_candidates
    monkeypatch.setattr(
        rpn, "sample_candidates", lambda *given, **more: chosen.extend(sample(*given, **more)) or chosen
    )
    torch.manual_seed(0)
    small = {"backbone": {"name": "r10", "norm": "bn", "freeze_at": 0}, "neck": {"channels": 16}}
    model = build_detector(model_config(detector="libra_rcnn", **small)).train()
    boxes = torch.tensor([[40.0, 40.0, 104.0, 104.0]])
    targets = [Target(boxes, torch.tensor([0])), Target(boxes[:0], torch.zeros(0, dtype=torch.int64))]
    losses = model([torch.zeros(3, 128, 160, dtype=torch.uint8)] * 2, targets)
    counts = [(len(positive), len(negative)) for positive, negative in chosen]
    assert counts[0][0] > 0 and counts[0][1] == 5 * counts[0][0] and counts[1] == (0, 5)
    # Means over those that were chosen: of an untrained RPN, the logarithm of 2.
    assert losses["loss_rpn_cls"].item() == pytest.approx(math.log(2), abs=0.05)
