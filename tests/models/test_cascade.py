"""Cascade R-CNN's own rules, beyond what every detector has in common."""

import numpy as np
import pytest
import torch
from detector_configs import model_config

from srfgan.models import Target, build_detector
from srfgan.models.config import BackboneConfig, BoxHeadConfig, MaskHeadConfig, ModelConfig, NeckConfig
from srfgan.models.instance_masks import Polygons
from srfgan.models.weights.names import to_detectron2, to_ours

BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0]])


def tiny(**box) -> ModelConfig:
    return model_config(
        detector="cascade_mask_rcnn",
        num_classes=3,
        backbone=BackboneConfig(name="r10", norm="bn", freeze_at=0),
        neck=NeckConfig(channels=16, upsampler="nn"),
        box_head=BoxHeadConfig(fc_dim=16, samples_per_image=32, **box),
        mask_head=MaskHeadConfig(channels=8, num_convs=1, norm=box.get("norm", "none")),
    )


def target(count=2) -> Target:
    square = Polygons((np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 50.0], [10.0, 50.0]]),))
    return Target(BOXES[:count], torch.tensor([0, 2])[:count], [square] * count)


def losses_and_gradients(model, targets):
    torch.manual_seed(0)
    images = [torch.rand(3, 64, 80) * 255 for _ in targets]
    losses = model.train()(images, targets)
    sum(losses.values()).backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == [] and all(loss.isfinite() for loss in losses.values())
    return losses


def test_each_stage_labels_at_its_own_overlap():
    """A box that overlaps by 0.65 is the object to stages 0 and 1 and background to stage 2."""
    stages = build_detector(tiny()).head.box.stages
    far, near = torch.tensor([[50.0, 0.0, 60.0, 5.0]]), BOXES[:1].clone()
    near[0, 3] = 6 + 44 * 0.65
    for stage, label in zip(stages, (0, 0, 3), strict=True):
        empty = torch.tensor([[5.0, 5.0, 5.0, 9.0]])
        (sample,) = stage.label([torch.cat([far, empty, near])], [target()])
        assert sample.labels.tolist() == ([0, 3] if label == 0 else [3, 3])
        assert sample.matched.tolist() == ([0] if label == 0 else [])
        assert torch.equal(sample.foreground, near if label == 0 else near[:0])


def test_later_stages_take_the_refined_boxes_and_all_of_them(monkeypatch):
    torch.manual_seed(0)
    model = build_detector(tiny())
    seen = []
    for stage in model.head.box.stages:
        stage.deltas.weight.data.normal_(std=0.5)
        monkeypatch.setattr(
            stage,
            "pool",
            lambda pyramid, boxes, stage=stage: seen.append(boxes) or type(stage).pool(stage, pyramid, boxes),
        )
    losses_and_gradients(model, [target(), target(0)])
    first, second, third = ([part.clone() for part in boxes] for boxes in seen)
    assert (
        [len(part) for part in first]
        == [len(part) for part in second]
        == [len(part) for part in third]
        == [32, 32]
    )
    for before, after in ((first, second), (second, third)):
        assert not torch.equal(before[0].sort(dim=0).values, after[0].sort(dim=0).values)
    for part in (*second, *third):
        assert (part >= 0).all() and (part[:, 2] <= 80).all() and (part[:, 3] <= 64).all()


def test_boxes_that_are_refined_to_nothing_are_left_out():
    """With every box moved out of the image, the later stages have nothing to learn from, and say 0."""
    model = build_detector(tiny())
    model.head.box.stages[0].deltas.bias.data.fill_(1e4)
    losses = losses_and_gradients(model, [target(), target(1)])
    assert losses["loss_cls_stage0"] > 0
    for stage in (1, 2):
        assert losses[f"loss_cls_stage{stage}"] == 0 and losses[f"loss_box_reg_stage{stage}"] == 0


def test_scores_are_the_mean_of_the_stages_and_boxes_the_last_ones():
    torch.manual_seed(0)
    model = build_detector(tiny()).eval()
    head = model.head.box
    for stage in head.stages:
        stage.deltas.weight.data.normal_(std=0.5)
        stage.classes.weight.data.normal_(std=0.5)
    with torch.no_grad():
        pyramid = model.pyramid(torch.randn(1, 3, 64, 64))
        boxes, probs = BOXES, []
        for stage in head.stages:
            logits, deltas = stage(pyramid, [boxes])
            probs.append(logits.softmax(-1)[:, :-1])
            boxes = stage.refine(deltas, [boxes], [(64, 64)])[0][:, 0]
        config = model.config.inference.model_copy(update={"score_threshold": 0.0, "nms_iou": 1.0})
        (found,) = head.detect(pyramid, [BOXES], [(64, 64)], config)
    scores, order = torch.stack(probs).mean(0).flatten().sort(descending=True)
    torch.testing.assert_close(found.scores, scores)
    assert torch.equal(found.labels, order % 3)
    torch.testing.assert_close(found.boxes, boxes[order // 3])


@pytest.mark.parametrize("counts", [(2, 1), (0, 0)])
def test_heads_with_convolutions_and_norms(counts):
    """As the ResNeSt detectors have them: BatchNorm in the box and mask heads, with their names."""
    model = build_detector(tiny(num_convs=2, conv_channels=8, num_fcs=1, norm="bn"))
    losses_and_gradients(model, [target(count) for count in counts])
    state = model.state_dict()
    assert all(value.isfinite().all() for value in state.values())
    assert "head.box.stages.0.convs.0.bias" not in state and "head.mask.convs.0.bias" not in state
    names = {to_detectron2(name) for name in state if name.startswith(("head.box.", "head.mask."))}
    assert {
        "roi_heads.box_head.2.conv2.weight",
        "roi_heads.box_head.2.conv2.norm.running_var",
        "roi_heads.box_head.1.fc1.bias",
        "roi_heads.box_predictor.0.bbox_pred.weight",
        "roi_heads.mask_head.mask_fcn1.norm.weight",
    } <= names
    assert {to_ours(name) for name in names} == {
        n for n in state if n.startswith(("head.box.", "head.mask."))
    }
