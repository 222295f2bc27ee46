"""CenterMask's own rules, beyond what FCOS and Mask R-CNN have in common with it."""

import numpy as np
import pytest
import torch
from detector_configs import model_config

from srfgan.models import Target, build_detector
from srfgan.models.config import (
    BackboneConfig,
    BiFPNConfig,
    FCOSHeadConfig,
    InferenceConfig,
    MaskBranchConfig,
    MaskHeadConfig,
    ModelConfig,
    NeckConfig,
)
from srfgan.models.heads.mask_attention import SpatialAttention
from srfgan.models.heads.mask_iou_head import MaskIoUHead
from srfgan.models.instance_masks import MaskPatch, Polygons
from srfgan.models.ops.mask_iou import mask_iou_targets, visible_shares
from srfgan.models.ops.pooling import assign_levels_by_share
from srfgan.models.weights.names import to_detectron2, to_ours

BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0]])
SQUARE = np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 50.0], [10.0, 50.0]])


def tiny(neck="fpn", upsampler="nn", **changes) -> ModelConfig:
    return model_config(
        detector="centermask",
        num_classes=3,
        backbone=BackboneConfig(name="r10", norm="bn", freeze_at=0),
        neck=NeckConfig(name=neck, channels=64, upsampler=upsampler, bifpn=BiFPNConfig(repeats=1)),
        fcos=FCOSHeadConfig(num_convs=1),
        mask_head=MaskHeadConfig(channels=8, num_convs=1),
        centermask=MaskBranchConfig(iou_convs=1, iou_fc_dim=16),
        **changes,
    )


def target(count=2) -> Target:
    return Target(BOXES[:count], torch.tensor([0, 2])[:count], [Polygons((SQUARE,))] * count)


def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, height, width, generator=generator) * 255 for height, width in ((65, 71), (90, 64))]


@pytest.mark.parametrize("counts", [(2, 1), (0, 2), (0, 0)])
@pytest.mark.parametrize("neck", ["fpn", "pafpn", "bifpn"])
def test_every_parameter_gets_a_gradient_whatever_the_targets(neck, counts):
    torch.manual_seed(0)
    model = build_detector(tiny(neck, "srf")).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=counts == (0, 2)):
        losses = model(images(), [target(count) for count in counts])
    assert list(losses) == ["loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr", "loss_mask", "loss_maskiou"]
    assert all(
        loss.shape == () and loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values()
    )
    sum(losses.values()).backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == []
    first, *others = losses.values()
    assert first > 0 and all((loss == 0) == (counts == (0, 0)) for loss in others)


def test_detections_have_masks_and_scores_of_their_own():
    torch.manual_seed(0)
    model = build_detector(tiny(inference=InferenceConfig(score_threshold=0.0))).eval()
    with torch.no_grad():
        found = model(images())
        unpasted = model.detect(images())
    for detections, same, image in zip(found, unpasted, images(), strict=True):
        count = len(detections)
        assert 0 < count <= 100 and (detections.scores.diff() <= 0).all()
        assert detections.masks.shape == (count, *image.shape[1:]) and detections.masks.dtype == torch.bool
        assert same.masks is None and same.mask_probs.shape == (count, 28, 28)
        assert torch.equal(same.mask_scores, detections.mask_scores)
        assert detections.mask_scores.shape == (count,) and detections.mask_scores.dtype == torch.float32
    model.head.inference = InferenceConfig(score_threshold=1.0)
    with torch.no_grad():
        (nothing,) = model([torch.zeros(3, 1, 1, dtype=torch.uint8)])
    assert len(nothing) == 0 and nothing.mask_scores.shape == (0,) and nothing.masks.shape == (0, 1, 1)


def test_a_mask_score_is_the_box_score_times_the_iou_of_its_class():
    torch.manual_seed(0)
    model = build_detector(tiny(inference=InferenceConfig(score_threshold=0.0))).eval()
    model.head.mask_iou.ious.weight.data.zero_()
    model.head.mask_iou.ious.bias.data = torch.tensor([0.5, 2.0, -1.0])
    with torch.no_grad():
        (found,) = model.detect(images()[:1])
    assert set(found.labels.tolist()) == {0, 1, 2}
    quality = torch.tensor([0.5, 2.0, -1.0])[found.labels]
    torch.testing.assert_close(found.mask_scores, found.scores * quality)


def test_names_map_in_both_directions():
    names = list(build_detector(tiny(upsampler="afi")).state_dict())
    assert [n for n in names if to_detectron2(n) is None or to_ours(to_detectron2(n)) != n] == []


def test_levels_go_by_the_share_of_the_image():
    """Image of 64 x 128: all of it, more; just above half, half; a quarter, less; nothing."""
    sides = [(64, 128), (90, 200), (64, 65), (64, 64), (32, 64), (8, 8), (0, 9)]
    boxes = torch.tensor([[-5.0, -3, w - 5, h - 3] for h, w in sides])
    assert assign_levels_by_share(boxes, (64, 128), 3, 5).tolist() == [5, 5, 5, 4, 3, 3, 3]


def test_the_visible_share_of_polygons_and_patches():
    """A square of 40 x 40 behind boxes that show all, half, a quarter and nothing of it; and two parts."""
    boxes = torch.tensor([[0.0, 0, 60, 60], [30, 0, 60, 60], [-9, -9, 30, 30], [50, 50, 60, 60]])
    patch = MaskPatch(np.ones((8, 5), np.uint8), np.array([10.0, 10, 50, 50]))
    matched = torch.zeros(4, dtype=torch.int64)
    for mask in (Polygons((SQUARE,)), patch, Polygons((SQUARE[::-1],))):
        assert visible_shares([mask], boxes, matched).tolist() == pytest.approx([1, 0.5, 0.25, 0])
    parts = Polygons((SQUARE, SQUARE + np.array([60.0, 0.0])))
    half = MaskPatch(np.array([[1, 0, 1]], np.uint8), np.array([10.0, 10, 130, 50]))
    for mask in (parts, half):
        shares = visible_shares([patch, mask], BOXES.new_tensor([[0, 0, 60, 60]]), torch.tensor([1]))
        assert shares.tolist() == pytest.approx([0.5])
    assert visible_shares([], boxes[:0], matched[:0]).shape == (0,)


def test_the_mask_iou_counts_what_the_box_hides():
    logits = torch.full((3, 4, 4), -1.0, requires_grad=True)
    truth = torch.zeros(3, 4, 4, dtype=torch.bool)
    truth[:, :, :2] = True
    with torch.no_grad():
        logits[:2, :, 1:3] = 1.0  # 8 predicted, 4 of them right
    found = mask_iou_targets(logits, truth, torch.tensor([1.0, 0.5, 0.0]))
    assert found.tolist() == pytest.approx([4 / (8 + 8 - 4), 4 / (8 + 16 - 4), 0])
    assert not found.requires_grad and found.dtype == torch.float32


def test_attention_weighs_places_by_mean_and_maximum():
    attention = SpatialAttention()
    attention.conv.weight.data.zero_()
    attention.conv.weight.data[0, :, 1, 2] = torch.tensor([2.0, -1.0])  # of the neighbour to the right
    x = torch.tensor([[1.0, 3.0, 5.0], [3.0, 1.0, -1.0]])[None, :, None]
    inside = 2 * x.mean(1) - x.amax(1)
    weights = torch.cat([inside[..., 1:], torch.zeros(1, 1, 1)], dim=-1).sigmoid()
    torch.testing.assert_close(attention(x), x * weights[:, None])


def test_the_mask_iou_head_takes_features_and_mask():
    torch.manual_seed(0)
    head = MaskIoUHead(4, 3, num_convs=2, conv_channels=6, fc_dim=5, resolution=7)
    assert [conv.stride for conv in head.convs] == [(1, 1), (2, 2)] and head.fcs[0].in_features == 6 * 16
    pooled, probs = torch.randn(2, 4, 7, 7), torch.rand(2, 14, 14)
    found = head(pooled, probs)
    assert found.shape == (2, 3)
    # Of each two by two cells of the mask only the largest counts.
    same = torch.nn.functional.max_pool2d(probs[:, None], 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(head(pooled, same[:, 0]), found)
    assert not torch.allclose(head(pooled, 1 - probs), found)


def test_the_mask_score_loss_trains_the_masks():
    torch.manual_seed(0)
    model = build_detector(tiny()).train()
    model(images(), [target(), target()])["loss_maskiou"].backward()
    head = model.head
    assert head.mask.logits.weight.grad.abs().sum() > 0 and head.mask_iou.ious.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in head.fcos.parameters())


def test_masks_train_on_ground_truth_and_on_fcos_boxes_that_overlap_it():
    config = tiny(inference=InferenceConfig(score_threshold=0.9, detections_per_image=1))
    head = build_detector(config).head
    assert (head.proposing.score_threshold, head.proposing.detections_per_image) == (0.05, 100)
    near, far = BOXES[:1] + 2, torch.tensor([[70.0, 0, 80, 9]])
    (sample,) = head.sample([torch.cat([far, near])], [target()])
    rows = sorted(zip(sample.boxes.tolist(), sample.labels.tolist(), sample.matched.tolist(), strict=True))
    expected = [(near[0].tolist(), 0, 0), (BOXES[0].tolist(), 0, 0), (BOXES[1].tolist(), 2, 1)]
    assert rows == sorted(expected)
    head.masks_per_image = 2
    assert len(head.sample([torch.cat([far, near])], [target()])[0].boxes) == 2
