"""Invariants of RetinaNet, FCOS and ATSS, at a size that takes milliseconds."""

import math
import statistics

import pytest
import torch
from detector_configs import model_config

from srfgan.models import Target, build_detector
from srfgan.models.config import (
    ATSSHeadConfig,
    BackboneConfig,
    FCOSHeadConfig,
    InferenceConfig,
    ModelConfig,
    NeckConfig,
    RetinaNetHeadConfig,
)
from srfgan.models.heads.dense import best_pairs, clipped_detections, focal_losses, select_dense_detections
from srfgan.models.heads.fcos_head import FCOSMaps, giou_losses
from srfgan.models.ops import distributed
from srfgan.models.ops.anchors import cell_anchors, grid_anchors
from srfgan.models.ops.atss_targets import atss_targets
from srfgan.models.ops.boxes import box_iou, encode_boxes
from srfgan.models.ops.fcos_targets import centerness, fcos_locations, fcos_targets
from srfgan.models.weights.names import to_detectron2, to_ours

DETECTORS = ["retinanet", "fcos", "atss"]


def tiny(detector, upsampler="nn", neck="fpn", **changes) -> ModelConfig:
    return model_config(
        detector=detector,
        num_classes=3,
        backbone=BackboneConfig(name="r10", norm="bn", freeze_at=0),
        neck=NeckConfig(name=neck, channels=64, upsampler=upsampler),
        retinanet=RetinaNetHeadConfig(num_convs=1),
        fcos=FCOSHeadConfig(num_convs=1),
        atss=ATSSHeadConfig(num_convs=1),
        **changes,
    )


def target(count: int) -> Target:
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0]])
    return Target(boxes[:count], torch.tensor([0, 2])[:count])


def images():
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, 65, 71), dtype=torch.uint8, generator=generator),
        torch.rand(3, 90, 64, generator=generator) * 255,
    ]


@pytest.mark.parametrize(
    ("detector", "upsampler", "millions"),
    [
        ("retinanet", "nn", 37.92),
        ("retinanet", "srf", 47.43),
        ("fcos", "nn", 32.24),
        ("fcos", "afi", 40.08),
        ("atss", "nn", 32.24),
    ],
)
def test_parameter_counts_of_the_papers(detector, upsampler, millions):
    """SRF-GAN, table 1: 37 M, and 47 M with G; the FCOS counts are the published models'."""
    with torch.device("meta"):
        model = build_detector(model_config(detector=detector, neck=NeckConfig(upsampler=upsampler)))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("counts", [(2, 1), (0, 2), (0, 0)])
@pytest.mark.parametrize("neck", ["fpn", "pafpn"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_every_parameter_gets_a_gradient_whatever_the_targets(detector, neck, counts):
    torch.manual_seed(0)
    model = build_detector(tiny(detector, "srf", neck)).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=counts == (0, 2)):
        losses = model(images(), [target(count) for count in counts])
    names = {
        "retinanet": ["loss_cls", "loss_box_reg"],
        "fcos": ["loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"],
        "atss": ["loss_cls", "loss_box_reg", "loss_centerness"],
    }
    assert list(losses) == names[detector]
    assert all(
        loss.shape == () and loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values()
    )
    sum(losses.values()).backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == []
    first, *others = losses.values()
    assert first > 0 and all((loss == 0) == (counts == (0, 0)) for loss in others)


@pytest.mark.parametrize("detector", DETECTORS)
def test_detections_are_well_formed(detector):
    torch.manual_seed(0)
    model = build_detector(tiny(detector, inference=InferenceConfig(score_threshold=0.0))).eval()
    with torch.no_grad():
        pyramid = model.pyramid(model.preprocess(images())[0])
        found = model(images())
    assert list(pyramid) == list(model.config.levels) == ["p3", "p4", "p5", "p6", "p7"]
    assert [tuple(x.shape[2:]) for x in pyramid.values()] == [(12, 12), (6, 6), (3, 3), (2, 2), (1, 1)]
    for detections, image in zip(found, images(), strict=True):
        assert 0 < len(detections) <= 100
        assert detections.boxes.dtype == torch.float32 and detections.labels.dtype == torch.int64
        assert (detections.boxes >= 0).all() and (detections.boxes[:, 2] <= image.shape[2]).all()
        assert (detections.boxes[:, 3] <= image.shape[1]).all()
        assert (detections.scores.diff() <= 0).all() and set(detections.labels.tolist()) <= {0, 1, 2}
        assert detections.masks is None and detections.mask_probs is None
    model.head.inference = InferenceConfig(score_threshold=1.0)
    with torch.no_grad():
        assert len(model([torch.zeros(3, 1, 1, dtype=torch.uint8)])[0]) == 0


@pytest.mark.parametrize("detector", ["retinanet", "fcos"])
def test_names_map_in_both_directions(detector):
    names = [n for n in build_detector(tiny(detector, "afi")).state_dict() if n != "head.loss_normalizer"]
    assert [n for n in names if to_detectron2(n) is None or to_ours(to_detectron2(n)) != n] == []


def test_retinanets_normalizer_moves_in_training_only_and_is_saved():
    model = build_detector(tiny("retinanet"))
    head, one = model.head, torch.tensor(10)
    assert model.state_dict()["head.loss_normalizer"] == 100
    assert head.train()._normalizer(one) == pytest.approx(91.0)
    assert head._normalizer(one) == pytest.approx(82.9)
    assert head.eval()._normalizer(torch.tensor(0)) == pytest.approx(0.9 * 82.9 + 0.1)
    again = build_detector(tiny("retinanet"))
    again.load_state_dict(model.state_dict())
    assert again.head.loss_normalizer.item() == pytest.approx(82.9)


def test_counts_are_averaged_over_processes(monkeypatch):
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda value: value.add_(5))
    mine = torch.tensor(1.0)
    assert distributed.mean_over_processes(mine) == 3 and mine == 1


def test_focal_losses_follow_the_papers_equation():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    found = focal_losses(logits, torch.tensor([1, 2]))
    for row, column, is_class in [(0, 0, False), (0, 1, True), (1, 0, False), (1, 1, False)]:
        p = 1 / (1 + math.exp(-logits[row, column].item()))
        p_t, alpha_t = (p, 0.25) if is_class else (1 - p, 0.75)
        assert found[row, column].item() == pytest.approx(-alpha_t * (1 - p_t) ** 2 * math.log(p_t), rel=1e-5)


def naive_targets(locations, boxes, labels, borders):
    """One place at a time: the smallest box that it answers for."""
    found = []
    for level, (places, stride) in enumerate(locations):
        low, high = [-1, *borders, math.inf][level : level + 2]
        for x, y in places.tolist():
            best = (math.inf, 9, None)
            for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist(), strict=True):
                sides = (x - x0, y - y0, x1 - x, y1 - y)
                central = abs(x - (x0 + x1) / 2) < 1.5 * stride and abs(y - (y0 + y1) / 2) < 1.5 * stride
                if min(sides) > 0 and central and low <= max(sides) <= high:
                    best = min(
                        best, ((x1 - x0) * (y1 - y0), label, [s / stride for s in sides]), key=lambda b: b[0]
                    )
            found.append(best[1:])
    return found


def test_fcos_targets_against_one_place_at_a_time():
    """With a farthest side of exactly 16, which two levels answer for, and two boxes of the same size."""
    maps = [torch.zeros(1, 1, side, side) for side in (12, 6, 3, 2, 1)]
    locations = fcos_locations(maps)
    assert locations[1][0][7].tolist() == [24.0, 24.0]
    boxes = torch.tensor(
        [[56.0, 4, 92, 40], [20, 10, 60, 60], [12, 12, 44, 44], [12, 12, 44, 44], [0, 0, 96, 95]]
    )
    labels, borders = torch.arange(5), [16, 24, 40, 64]
    found, sides = fcos_targets(locations, [Target(boxes, labels), target(0)], borders, 9)
    expected = naive_targets(locations, boxes, labels, borders)
    assert found[0].tolist() == [label for label, _ in expected]
    assert {0, 1, 2, 4, 9} <= set(found[0].tolist()) and 3 not in found[0], "the first of equal boxes wins"
    for row, (label, wanted) in zip(sides[0], expected, strict=True):
        assert label == 9 or row.tolist() == pytest.approx(wanted)
    assert (found[1] == 9).all() and sides.isfinite().all()
    assert centerness(torch.tensor([1.0, 2.0, 4.0, 8.0])).item() == pytest.approx(math.sqrt(1 / 4 * 2 / 8))


def test_giou_by_hand():
    # Predicted 2 x 2, wanted 4 x 4 around the same place: inside it, so the hull adds nothing.
    inside = giou_losses(torch.tensor([[1.0, 1, 1, 1]]), torch.tensor([[2.0, 2, 2, 2]]))
    assert inside.item() == pytest.approx(1 - 5 / 17)
    # 4 x 1 across 1 x 4: intersection 1, union 7, hull 16.
    cross = giou_losses(torch.tensor([[2.0, 0.5, 2, 0.5]]), torch.tensor([[0.5, 2, 0.5, 2]]))
    assert cross.item() == pytest.approx(1 - (2 / 8 - (16 - 7) / 16))


@pytest.mark.parametrize("exporting", [False, True])
@pytest.mark.parametrize("limit", [3, 100])
def test_best_pairs(monkeypatch, exporting, limit):
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    scores = torch.tensor([[0.1, 0.9, 0.0], [0.3, 0.2, 0.8]])
    passing = scores >= torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found = sorted(zip(*(part.tolist() for part in best_pairs(scores, passing, limit)), strict=True))
    everything = [(0, 0, 0.1), (0, 2, 0.0), (1, 0, 0.3), (1, 1, 0.2), (1, 2, 0.8)]
    expected = everything if limit == 100 else [(1, 0, 0.3), (1, 1, 0.2), (1, 2, 0.8)]
    assert [pair[:2] for pair in found] == [pair[:2] for pair in expected]
    assert [pair[2] for pair in found] == pytest.approx([pair[2] for pair in expected])
    assert all(len(part) == 0 for part in best_pairs(scores, scores > 1, limit))


def test_boxes_are_clipped_after_suppression():
    """Two boxes that are the same once clipped both stay; one that lies outside goes."""
    boxes = torch.tensor([[-100.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 9], [-9, -9, -1, -1]])
    found = select_dense_detections(
        boxes,
        torch.tensor([0.9, 0.8, 0.7, 0.6]),
        torch.zeros(4, dtype=torch.int64),
        InferenceConfig(),
    )
    assert found.boxes[0, 0] == -100 and len(found) == 3
    found = clipped_detections(found, (20, 20))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert found.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 10]]


@pytest.mark.parametrize("channels", [32, 80])
@pytest.mark.parametrize("detector", ["fcos", "atss"])
def test_widths_that_the_towers_cannot_normalise_are_refused(detector, channels):
    with pytest.raises(ValueError, match=f"must be a multiple of 32 from 64, got {channels}"):
        model_config(detector=detector, neck=NeckConfig(channels=channels))


def naive_atss(levels, boxes, candidates):
    """One object at a time: the anchors that are its positives, with their IoU."""
    found = {}
    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        chosen = []
        for first, level in levels:
            middles = [((a + c) / 2, (b + d) / 2) for a, b, c, d in level.tolist()]
            far = [math.dist(place, ((x0 + x1) / 2, (y0 + y1) / 2)) for place in middles]
            nearest = sorted(range(len(far)), key=far.__getitem__)[:candidates]
            chosen += [(first + row, level[row], middles[row]) for row in nearest]
        overlaps = [box_iou(boxes[number : number + 1], anchor[None]).item() for _, anchor, _ in chosen]
        least = statistics.mean(overlaps) + statistics.stdev(overlaps)
        for (row, _, (x, y)), overlap in zip(chosen, overlaps, strict=True):
            if overlap >= least and x0 < x < x1 and y0 < y < y1 and overlap > found.get(row, (0, 0))[0]:
                found[row] = (overlap, number)
    return found


def test_atss_targets_against_one_object_at_a_time():
    """With objects that want the same anchors, one that no place lies in, and an image without any."""
    levels = [
        grid_anchors(cell_anchors(4.0 * stride, [1.0]), side, side, stride)
        for stride, side in ((8, 12), (16, 6), (32, 3), (64, 2), (128, 1))
    ]
    boxes = torch.tensor(
        [[5.0, 3, 41, 38], [9, 6, 47, 40], [51, 43, 66, 60], [1, 2, 90, 95], [81, 81, 86, 87]]
    )
    firsts = [sum(map(len, levels[:index])) for index in range(len(levels))]
    expected = naive_atss(list(zip(firsts, levels, strict=True)), boxes, 9)
    labels, wanted = atss_targets(levels, [Target(boxes, torch.arange(5)), target(0)], 9, 7)
    positive = {row: label for row, label in enumerate(labels[0].tolist()) if label != 7}
    assert positive == {row: number for row, (_, number) in expected.items()}
    assert set(positive.values()) == {0, 1, 2, 3}
    assert all(wanted[0, row].tolist() == boxes[number].tolist() for row, number in positive.items())
    assert (labels[1] == 7).all()


def test_atss_learns_the_boxes_it_is_given(monkeypatch):
    """Deltas that put each positive's anchor on its object cost nothing; the head finds them again."""
    torch.manual_seed(0)
    model = build_detector(tiny("atss", inference=InferenceConfig(score_threshold=0.0)))
    head, truth, size = model.head, target(2), (96, 96)
    maps = head.towers(model.pyramid(model.preprocess([torch.zeros(3, *size, dtype=torch.uint8)])[0]))
    levels = head.anchors(maps)
    (labels,), (boxes,) = atss_targets(levels, [truth], 9, 3)
    positive = labels < 3
    deltas = torch.zeros_like(boxes)
    deltas[positive] = encode_boxes(torch.cat(levels)[positive], boxes[positive], (10.0, 10.0, 5.0, 5.0))
    sides = [
        part.T.reshape(1, 4, *x.shape[2:])
        for part, x in zip(deltas.split([len(level) for level in levels]), maps.logits, strict=True)
    ]
    logits = [
        (torch.nn.functional.one_hot(part, 4)[:, :3].T.reshape(1, 3, *x.shape[2:]) - 0.5) * 40
        for part, x in zip(labels.split([len(level) for level in levels]), maps.logits, strict=True)
    ]
    given = FCOSMaps(logits, sides, maps.centerness)
    monkeypatch.setattr(head.towers, "forward", lambda pyramid: given)
    losses = head.losses({}, [size], [truth])
    assert losses["loss_box_reg"].item() == pytest.approx(0, abs=1e-5)
    assert losses["loss_cls"].item() == pytest.approx(0, abs=1e-5)
    best = head.detect({}, [size])[0]
    for label, box in zip(truth.labels.tolist(), truth.boxes, strict=True):
        assert best.boxes[best.labels == label][0].tolist() == pytest.approx(box.tolist(), abs=1e-2)
