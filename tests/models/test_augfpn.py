"""AugFPN's parts: what they compute, and whom they teach."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config

from srfgan.models import Polygons, Target, build_detector
from srfgan.models.necks.augfpn import ResidualAugmentation, SpatialFusion
from srfgan.models.ops.graph_pooling import graph_smoothed, smoothed
from srfgan.models.ops.pooling import pool_boxes


def augmented(detector="mask_rcnn", **more):
    torch.manual_seed(0)
    return build_detector(
        model_config(
            detector,
            num_classes=3,
            backbone={"name": "r10", "norm": "bn", "freeze_at": 0},
            neck={"name": "augfpn", "channels": 64, "upsampler": "nn"},
            box_head={"fc_dim": 32},
            mask_head={"channels": 16, "num_convs": 1},
            **more,
        )
    )


def batch():
    images = [torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)] * 2
    box = torch.tensor([[8.0, 8, 60, 70]])
    outline = Polygons((np.array([[8.0, 8], [60, 8], [60, 70]]),))
    return images, [Target(box, torch.tensor([1]), [outline])] * 2


def test_maps_are_added_up_with_the_weights_of_each_place():
    torch.manual_seed(0)
    fusion, maps = SpatialFusion(4, 3), [torch.randn(2, 4, 5, 6) for _ in range(3)]
    shares = fusion.weights(fusion.hidden(torch.cat(maps, dim=1)).clamp(min=0)).sigmoid()
    expected = sum(maps[index] * shares[:, index : index + 1] for index in range(3))
    torch.testing.assert_close(fusion(maps), expected)


def test_contexts_are_the_means_of_a_tenth_two_and_three():
    """Of a map of 20 x 30: 2 x 3, 4 x 6 and 6 x 9 means, bilinearly back, corners on corners."""
    torch.manual_seed(0)
    augment, x = ResidualAugmentation(6, 4), torch.randn(1, 6, 20, 30)
    contexts = [
        F.interpolate(
            conv(F.adaptive_avg_pool2d(x, (2 * times, 3 * times))),
            (20, 30),
            mode="bilinear",
            align_corners=True,
        )
        for times, conv in zip((1, 2, 3), augment.reduce, strict=True)
    ]
    torch.testing.assert_close(augment(x), augment.fusion(contexts))
    assert augment(torch.randn(1, 6, 1, 3)).shape == (1, 4, 1, 3), "a map of less than ten gives one mean"


@pytest.mark.parametrize("side", [1, 2, 7, 10, 19, 33])
@pytest.mark.parametrize("tenths", [1, 2, 3])
def test_a_graphs_contexts_are_torchs(side, tenths):
    x = torch.randn(2, 3, side, 2 * side)
    torch.testing.assert_close(graph_smoothed(x, tenths), smoothed(x, tenths))


def test_a_box_is_pooled_from_all_levels():
    model = augmented().eval()
    maps = {f"p{level}": torch.randn(1, 64, 128 >> level, 128 >> level) for level in range(2, 6)}
    boxes = [torch.tensor([[3.0, 4, 40, 50], [10, 10, 120, 100]])]
    of_each = [pool_boxes({level: x}, boxes, 7) for level, x in maps.items()]
    with torch.no_grad():
        torch.testing.assert_close(model.head.box.pool(maps, boxes), model.head.box.selection.fusion(of_each))


def test_levels_are_taught_before_fusion():
    """Those losses reach backbone and laterals, but nothing after; detecting asks for none of it."""
    model = augmented()
    images, targets = batch()
    losses = model.train()(images, targets)
    before = {name: loss for name, loss in losses.items() if name.endswith("_before")}
    assert set(before) == {"loss_cls_before", "loss_box_reg_before", "loss_mask_before"}
    sum(before.values()).backward()
    taught = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {f"neck.lateral.p{level}.weight" for level in (2, 3, 4, 5)} <= taught
    assert not any(
        name.startswith(("neck.output", "neck.augment", "head.box", "head.mask")) for name in taught
    )
    assert any(name.startswith("head.supervision.mask") for name in taught)
    with torch.no_grad():
        pyramid = model.eval().pyramid(model.preprocess(images)[0])
        assert list(pyramid) == list(model.config.levels)
        found = model(images)
        for parameter in model.head.supervision.parameters():
            parameter.fill_(torch.nan)
        again = model(images)
    assert all(torch.equal(one.scores, other.scores) for one, other in zip(found, again, strict=True))


@pytest.mark.parametrize("detector", ["faster_rcnn", "cascade_mask_rcnn", "fcos", "libra_rcnn", "panet"])
def test_the_neck_is_any_detectors(detector):
    model = augmented(detector)
    images, targets = batch()
    losses = model.train()(images, targets)
    assert any(name.endswith("_before") for name in losses) == (detector == "faster_rcnn")
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        model.eval()(images)
