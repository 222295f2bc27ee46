"""An accumulated step is one of a large batch where what the losses count is alike in its parts, and only there."""

import numpy as np
import pytest
import torch
from detector_configs import model_config

from srfgan.models import Target, build_detector
from srfgan.models.config import DETECTORS
from srfgan.models.heads import retinanet_head
from srfgan.models.instance_masks import Polygons
from srfgan_cli.runs.plan import accumulation, make_plan
from srfgan_cli.screen.options import TrainOptions

BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0], [30.0, 2.0, 44.0, 20.0]])


DEAR = {"cascade_mask_rcnn", "panet", "tridentnet"}
"""A step of one takes as long as five of Faster R-CNN's."""


def square(box):
    x0, y0, x1, y1 = box.double().numpy()
    return Polygons((np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),))


def target(count):
    return Target(BOXES[:count], torch.tensor([0, 2, 1])[:count], [square(box) for box in BOXES[:count]])


@pytest.fixture
def gradients(monkeypatch):
    """Of a batch of two images, in one pass or in two that are averaged, by a detector with frozen norms."""
    monkeypatch.setattr(torch, "randperm", lambda count, **options: torch.arange(count, **options))

    def compute(detector, passes):
        torch.manual_seed(0)
        model = build_detector(
            model_config(
                detector,
                num_classes=3,
                backbone={"name": "r10", "norm": "frozen_bn", "freeze_at": 0},
                neck={"channels": 64, "upsampler": "nn"},
                box_head={"fc_dim": 16, "samples_per_image": 2000},  # more than NMS leaves
                mask_head={"channels": 8, "num_convs": 1},
                sparse_rcnn={"stages": 1},  # each one amplifies rounding
            )
        ).train()
        for images, targets in passes:
            (sum(model(images, targets).values()) / len(passes)).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    return compute


def images(count):
    return list(torch.rand(count, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255)


@pytest.mark.parametrize(
    "detector", [pytest.param(name, marks=[pytest.mark.slow] * (name in DEAR)) for name in DETECTORS]
)
def test_parts_make_the_step_of_their_whole_where_their_counts_are_alike_and_only_there(
    detector, gradients, monkeypatch
):
    """Alike: twice the same image, up to rounding, which small networks amplify. Unlike: one object, and three.

    RetinaNet's moving average stands still.
    """
    monkeypatch.setattr(retinanet_head, "_MOMENTUM", 0.0)
    first, second = images(2)
    alike = [([first], [target(2)])] * 2
    unlike = [([first], [target(1)]), ([second], [target(3)])]

    def apart(parts):
        together = gradients(detector, [tuple(one + other for one, other in zip(*parts, strict=True))])
        return float((gradients(detector, parts) - together).norm() / together.norm())

    with torch.backends.mkldnn.flags(enabled=False):  # which rounds otherwise in a batch of two than of one
        difference = apart(unlike)
        assert difference > 1e-3 and apart(alike) < difference / 100


@pytest.mark.parametrize(
    ("stage", "preset", "said"),
    [
        ("finetune", "mask_rcnn_r18_fpn_nn", "divides losses by its own sampled boxes and masks"),
        ("finetune", "sparse_rcnn_r18_fpn_nn", "divides losses by its own objects"),
        ("extract", "fcos_r18_fpn", "means over its own maps and divides losses by its own positive places"),
        ("pretrain", "fcos_r18_fpn", "has its own batch statistics and takes means over its own maps"),
    ],
)
def test_a_plan_says_in_what_its_passes_are_not_one(stage, preset, said):
    options = {"dry_run": True, "dataset": "shapes"}
    plan = make_plan(TrainOptions(stage, preset, set_=[f"{stage}.solver.accumulate=2"], **options))
    text = accumulation(plan)
    batch = plan.solver.batch_size
    assert text.startswith(
        f"2 passes over {batch // 2} images each, not quite one over {batch}: each is padded"
    )
    assert said in text
    assert accumulation(make_plan(TrainOptions(stage, preset, **options))) is None


def test_a_dry_run_shows_it(srfgan):
    done = srfgan(
        "finetune", "--preset", "retinanet_r18_fpn_nn", "--set", "finetune.solver.accumulate=4", "--dry-run"
    )
    assert "4 passes over 1 images each" in done.out and "positive anchors" in done.out
    assert "passes over" not in srfgan("finetune", "--preset", "retinanet_r18_fpn_nn", "--dry-run").out
