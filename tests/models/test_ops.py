"""Boxes, anchors, matching, sampling, pooling and suppression against hand-computed values."""

import copy
import math
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision

from srfgan.models.ops import anchors as anchor_ops
from srfgan.models.ops import matching, roi_align
from srfgan.models.ops import suppression as suppression_ops
from srfgan.models.ops.anchors import AnchorGrids, cell_anchors, grid_anchors
from srfgan.models.ops.boxes import box_iou, clip_boxes, decode_boxes, encode_boxes, is_nonempty
from srfgan.models.ops.losses import binary_sum, class_sum, l1_sum
from srfgan.models.ops.matching import IGNORED, NEGATIVE, POSITIVE, match_boxes
from srfgan.models.ops.nms import nms_within_classes
from srfgan.models.ops.pooling import assign_levels, maps_for_pooling, pool_boxes
from srfgan.models.ops.sampling import sample_candidates
from srfgan.models.ops.suppression import Suppression


def random_boxes(count, extent=200.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * extent
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * extent], dim=1)


def test_box_coding_by_hand_and_back():
    box = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    moved = torch.tensor([[5.0, 10.0, 15.0, 50.0]])
    expected = torch.tensor([[5 / 10 * 10, 20 / 20 * 10, 0.0, math.log(2) * 5]])
    weights = (10.0, 10.0, 5.0, 5.0)
    torch.testing.assert_close(encode_boxes(box, moved, weights), expected)
    boxes, targets = random_boxes(50), random_boxes(50, seed=1)
    decoded = decode_boxes(encode_boxes(boxes, targets, weights), boxes, weights)
    torch.testing.assert_close(decoded, targets, atol=1e-3, rtol=1e-5)


def test_decoding_limits_growth():
    huge = decode_boxes(
        torch.tensor([[0.0, 0.0, 100.0, 100.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]]), (1,) * 4
    )
    torch.testing.assert_close(huge, torch.tensor([[-492.0, -492.0, 508.0, 508.0]]))


def test_iou_clip_and_emptiness():
    first, second = random_boxes(30), random_boxes(40, seed=2)
    torch.testing.assert_close(box_iou(first, second), torchvision.ops.box_iou(first, second))
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert box_iou(point, point).item() == 0, "no NaN where both are empty"
    clipped = clip_boxes(torch.tensor([[-5.0, 2.0, 30.0, 40.0], [25.0, 2.0, 30.0, 8.0]]), (10, 20))
    assert clipped.tolist() == [[0, 2, 20, 10], [20, 2, 20, 8]]
    assert is_nonempty(clipped).tolist() == [True, False]


def test_anchors_by_hand():
    cell = cell_anchors(32, [0.5, 1.0, 2.0])
    width = 32 * math.sqrt(2)
    torch.testing.assert_close(cell[0], torch.tensor([-width / 2, -width / 4, width / 2, width / 4]))
    grid = grid_anchors(cell, height=2, width=3, stride=8)
    assert grid.shape == (18, 4)
    torch.testing.assert_close(grid[3 * 4 + 1], torch.tensor([8.0 - 16, 8.0 - 16, 8.0 + 16, 8.0 + 16]))


def test_threads_share_the_anchors_of_the_last_few_sizes():
    grids, cells = AnchorGrids(), [cell_anchors(32, [1.0])]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            sizes = [(height, 1 + height % 7) for height in range(1, 60)] * 20
            lengths = list(threads.map(lambda size: len(grids.of(cells, [8], [torch.empty(size)])[0]), sizes))
    finally:
        sys.setswitchinterval(before)
    assert lengths == [height * width for height, width in sizes]
    assert len(grids._kept) <= anchor_ops._SIZES


@pytest.mark.parametrize("pairs_at_once", [2**24, 4])
def test_matching_thresholds_and_rescue(monkeypatch, pairs_at_once):
    monkeypatch.setattr(matching, "_MAX_PAIRS", pairs_at_once)
    truth = torch.tensor([[0.0, 0.0, 10.0, 10.0], [100.0, 0.0, 110.0, 10.0], [500.0, 500.0, 500.0, 500.0]])
    candidates = torch.tensor(
        [
            [0.0, 0.0, 10.0, 8.0],  # IoU 0.8 with the first
            [0.0, 0.0, 10.0, 5.0],  # 0.5 with the first
            [0.0, 0.0, 10.0, 1.0],  # 0.1 with the first
            [100.0, 0.0, 110.0, 2.0],  # 0.2 with the second, its best
            [100.0, 8.0, 110.0, 10.0],  # the same: a tie
            [300.0, 0.0, 310.0, 10.0],  # nothing; the empty third truth must not claim it
        ]
    )
    index, labels = match_boxes(truth, candidates, negative_below=0.3, positive_from=0.7, rescue=True)
    assert index[:5].tolist() == [0, 0, 0, 1, 1]
    assert labels.tolist() == [POSITIVE, IGNORED, NEGATIVE, POSITIVE, POSITIVE, NEGATIVE]
    _, labels = match_boxes(truth, candidates, negative_below=0.5, positive_from=0.5, rescue=False)
    assert labels.tolist() == [POSITIVE, POSITIVE, NEGATIVE, NEGATIVE, NEGATIVE, NEGATIVE]


def test_matching_without_truth():
    index, labels = match_boxes(
        torch.zeros(0, 4), random_boxes(3), negative_below=0.3, positive_from=0.7, rescue=True
    )
    assert index.tolist() == [0, 0, 0] and labels.tolist() == [NEGATIVE] * 3


def test_sampling(monkeypatch):
    labels = torch.tensor([POSITIVE, NEGATIVE, IGNORED] * 20)
    [(positive, negative)] = sample_candidates([labels], 16, 0.25)
    assert len(positive) == 4 and len(negative) == 12
    assert (labels[positive] == POSITIVE).all() and (labels[negative] == NEGATIVE).all()
    assert len(set(positive.tolist())) == 4
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    (positive, negative), few = sample_candidates([labels, torch.tensor([NEGATIVE, POSITIVE])], 6, 0.5)
    assert positive.tolist() == [0, 3, 6] and negative.tolist() == [1, 4, 7]
    assert [part.tolist() for part in few] == [[1], [0]], "each image by itself"


def test_anchors_are_made_once_for_each_of_the_last_sizes(monkeypatch):
    cell, made = cell_anchors(32, [0.5, 1.0]), []
    real = anchor_ops.grid_anchors
    monkeypatch.setattr(anchor_ops, "grid_anchors", lambda *given: made.append(given) or real(*given))
    grids = anchor_ops.AnchorGrids()
    maps = [torch.zeros(1, 1, 3, width) for width in range(1, 10)]  # one more than are kept
    with torch.inference_mode():  # what is kept may take part in a training step all the same
        for x in (maps[0], maps[0], *maps):
            (found,) = grids.of([cell], [8], [x])
            assert torch.equal(found, real(cell, 3, x.shape[-1], 8)) and not found.is_inference()
    assert len(made) == len(maps)
    grids.of([cell], [8], [maps[-1]])
    copy.deepcopy(grids).of([cell], [8], [maps[-1]])
    grids.of([cell.clone()], [8], [maps[-1]])  # moved, or replaced
    grids.of([cell], [8], [maps[0]])  # the first one had to go
    assert len(made) == len(maps) + 3


def test_level_assignment():
    sides = torch.tensor([1.0, 111.0, 112.0, 224.0, 447.0, 448.0, 5000.0])
    boxes = torch.stack([torch.zeros(7), torch.zeros(7), sides, sides], dim=1)
    assert assign_levels(boxes, 2, 5).tolist() == [2, 2, 3, 4, 4, 5, 5]
    assert assign_levels(torch.zeros(1, 4), 2, 5).tolist() == [2]


def test_pooling_reads_positions_from_the_right_image_and_level():
    """On a map whose value is its pixel's x coordinate, a bin's average is the x of its centre."""
    maps = {}
    for level in range(2, 6):
        stride = 2**level
        xs = (torch.arange(1024 // stride) + 0.5) * stride
        ramp = xs.expand(2, 1, 1024 // stride, -1).clone()
        ramp[1] += 10_000 * level
        maps[f"p{level}"] = ramp
    boxes = [
        torch.tensor([[100.0, 50.0, 170.0, 120.0], [200.0, 200.0, 900.0, 700.0]]),
        torch.tensor([[64.0, 64.0, 288.0, 288.0]]),
    ]
    pooled = pool_boxes(maps, boxes, 7)[:, 0]
    for row, box, base in zip(pooled, torch.cat(boxes), [0, 0, 40_000], strict=True):
        centres = box[0] + (torch.arange(7) + 0.5) * (box[2] - box[0]) / 7
        torch.testing.assert_close(row, (base + centres).expand(7, 7))
    assert pool_boxes(maps, [torch.zeros(0, 4), torch.zeros(0, 4)], 7).shape == (0, 1, 7, 7)


# Small and large for their level, across borders, outside, without an area, and turned inside out.
ODD_BOXES = [
    [-30.0, -20.0, 500.0, 400.0],
    [3.0, 3.0, 9.0, 9.0],
    [150.0, 110.0, 290.0, 215.0],
    [900.0, 900.0, 950.0, 990.0],
    [40.0, 40.0, 40.0, 40.0],
    [60.0, 60.0, 20.0, 30.0],
]


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("resolution", [7, 14])
def test_pooling_on_a_cpu_is_torchvisions(samples, resolution, monkeypatch):
    monkeypatch.setattr(roi_align, "_PIXELS_AT_ONCE", 20_000)  # several parts
    x = torch.randn(2, 12, 50, 70).to(memory_format=torch.channels_last).requires_grad_()
    boxes = torch.cat([random_boxes(60), torch.tensor(ODD_BOXES)])
    rois = torch.cat([(torch.arange(len(boxes)) % 2)[:, None], boxes], dim=1)
    found = roi_align.roi_align(x, rois, resolution, 0.25, samples)
    expected = torchvision.ops.roi_align(x, rois, resolution, 0.25, samples, aligned=True)
    weight = torch.randn(expected.shape)
    gradients = [torch.autograd.grad((pooled * weight).sum(), x)[0] for pooled in (found, expected)]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_boxes_that_are_no_numbers_pool_zeros_on_a_cpu():
    odd = [[0, 0, math.nan, 9, 9], [0, math.nan, 3, math.inf, 9], [0, 0, 0, math.inf, 9]]
    rois = torch.tensor([*odd, [0, 4, 4, 12, 12]])
    found = roi_align.roi_align(torch.ones(1, 2, 8, 8), rois, 2, 0.5, 0)
    assert found.sum((1, 2, 3)).tolist() == [0, 0, 0, 8]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_maps_for_pooling_are_the_same_values_as_float32(layout):
    x = torch.randn(2, 64, 9, 11).to(memory_format=layout).requires_grad_()
    maps = maps_for_pooling({"p2": x, "p3": x.bfloat16(), "p6": x}, ["p2", "p3"])
    assert torch.equal(maps["p2"], x) and torch.equal(maps["p3"], x.bfloat16().float())
    assert [y.dtype for y in maps.values()] == [torch.float32] * 2
    weight = torch.randn(x.shape)
    (maps["p2"] * weight).sum().backward()
    assert torch.equal(x.grad, weight)


def test_suppression_only_within_classes(monkeypatch):
    boxes = random_boxes(300, extent=60)
    scores = torch.rand(300, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(300) % 3
    expected = []
    for label in range(3):
        index = torch.nonzero(classes == label).flatten()
        expected.append(index[torchvision.ops.nms(boxes[index], scores[index], 0.5)])
    expected = torch.cat(expected)
    expected = expected[scores[expected].argsort(descending=True)]
    assert nms_within_classes(boxes, scores, classes, 0.5).tolist() == expected.tolist()
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert nms_within_classes(boxes, scores, classes, 0.5).tolist() == expected.tolist()
    nms = torchvision.ops.nms

    def as_in_openvino(boxes, scores, iou):
        kept = nms(boxes, scores, iou)
        return kept[scores[kept] > torch.finfo(scores.dtype).min]

    monkeypatch.setattr(torchvision.ops, "nms", as_in_openvino)
    assert nms_within_classes(boxes, scores, classes, 0.5).tolist() == expected.tolist()


def test_losses_are_float32_and_zero_when_empty():
    empty = torch.zeros(0, 4, dtype=torch.bfloat16, requires_grad=True)
    for loss in (
        l1_sum(empty, torch.zeros(0, 4)),
        binary_sum(empty, torch.zeros(0, 4)),
        class_sum(empty, torch.zeros(0, dtype=torch.int64)),
    ):
        assert loss.dtype == torch.float32 and loss.item() == 0 and loss.requires_grad


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_pooling_on_several_threads_equals_one(mode):
    torch.manual_seed(0)
    features = {f"p{level}": torch.randn(2, 3, 256 >> level, 256 >> level) for level in range(2, 6)}
    corner, side = torch.rand(150, 2) * 200, 4 + torch.rand(150, 2) * 250
    boxes = list(torch.cat([corner, corner + side], dim=1).split([140, 10]))
    threads = torch.get_num_threads()
    try:
        with mode():
            torch.set_num_threads(1)
            alone = pool_boxes(features, boxes, 7)
            torch.set_num_threads(3)
            together = pool_boxes(features, boxes, 7)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


def by_torchvision(boxes, valid, iou):
    keep = torch.zeros(len(boxes), dtype=torch.bool)
    rows = valid.nonzero().flatten()
    scores = torch.arange(len(rows), 0, -1).float()
    keep[rows[torchvision.ops.nms(boxes[rows], scores, iou)]] = True
    return keep


def settled(suppression, rounds):
    turns = 1
    while not suppression.advance(rounds):
        turns += 1
    return turns


@pytest.mark.parametrize(("rounds", "at_once"), [(16, 2**23), (1, 1)])
def test_groups_suppressed_together_are_torchvisions_one_by_one(rounds, at_once, monkeypatch):
    monkeypatch.setattr(suppression_ops, "_PAIRS_AT_ONCE", at_once)
    boxes = torch.stack([random_boxes(120, extent=extent, seed=extent) for extent in (20, 60, 300)])
    boxes[1, 40:50] = boxes[1, 10]  # the same box many times
    boxes[1, 60, 2] = boxes[1, 60, 0]  # an empty one
    valid = torch.rand(3, 120, generator=torch.Generator().manual_seed(0)) > 0.1
    valid[1, 60] = False
    suppression = Suppression(boxes, valid, 0.5)
    settled(suppression, rounds)
    expected = torch.stack([by_torchvision(b, v, 0.5) for b, v in zip(boxes, valid, strict=True)])
    assert torch.equal(suppression.keep, expected)
    assert 3 < expected.sum() < valid.sum()


def test_a_chain_of_overlaps_is_followed_to_its_end():
    """Every box overlaps the next alone: every second one stays, which takes a round for each."""
    left = torch.arange(50.0) * 3
    boxes = torch.stack([left, torch.zeros(50), left + 10, torch.full((50,), 10.0)], dim=1)[None]
    suppression = Suppression(boxes, torch.ones(1, 50, dtype=torch.bool), 0.5)
    assert settled(suppression, 4) > 10
    assert suppression.keep[0].tolist() == [True, False] * 25


def test_no_boxes_are_no_boxes():
    suppression = Suppression(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool), 0.5)
    assert bool(suppression.advance()) and suppression.keep.shape == (2, 0)
