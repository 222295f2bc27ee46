"""Sparse R-CNN's own rules, beyond what the parity case shows on one image."""

from itertools import permutations

import pytest
import torch
from detector_configs import model_config
from torchvision.ops import generalized_box_iou

from srfgan.models import Target, build_detector
from srfgan.models.config import BackboneConfig, InferenceConfig, ModelConfig, NeckConfig, SparseHeadConfig
from srfgan.models.ops.boxes import generalized_iou
from srfgan.models.ops.set_matching import match_sets
from srfgan.models.weights.names import to_detectron2, to_ours

BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0], [30.0, 2.0, 44.0, 20.0]])


def tiny(neck="fpn", upsampler="nn", proposals=8, threshold=0.0) -> ModelConfig:
    return model_config(
        detector="sparse_rcnn",
        num_classes=3,
        backbone=BackboneConfig(name="r10", norm="bn", freeze_at=0),
        neck=NeckConfig(name=neck, channels=16, upsampler=upsampler),
        sparse_rcnn=SparseHeadConfig(
            num_proposals=proposals, stages=3, attention_heads=4, feedforward_width=32, dynamic_width=8
        ),
        inference=InferenceConfig(score_threshold=threshold, detections_per_image=10),
    )


def target(count=2) -> Target:
    return Target(BOXES[:count], torch.tensor([0, 2, 1])[:count])


def images(count=2):
    return list(torch.rand(count, 3, 70, 90, generator=torch.Generator().manual_seed(0)) * 255)


@pytest.mark.parametrize("counts", [(2, 1), (0, 2), (0, 0)])
@pytest.mark.parametrize(("neck", "upsampler"), [("fpn", "srf"), ("pafpn", "afi"), ("bifpn", "nn")])
def test_every_parameter_gets_a_gradient_whatever_the_targets(neck, upsampler, counts):
    torch.manual_seed(0)
    model = build_detector(tiny(neck, upsampler)).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=counts == (0, 2)):
        losses = model(images(), [target(count) for count in counts])
    assert set(losses) == {
        f"{name}{ending}" for name in ("loss_ce", "loss_bbox", "loss_giou") for ending in ("_0", "_1", "")
    }
    assert all(x.shape == () and x.isfinite() and x.dtype == torch.float32 for x in losses.values())
    sum(losses.values()).backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == []
    for name, loss in losses.items():
        assert (loss == 0) == (counts == (0, 0) and not name.startswith("loss_ce")), name


def test_a_batch_is_its_images():
    """Each image is matched by itself: sums over a batch are the sums of its images, empty ones among them."""
    torch.manual_seed(0)
    model = build_detector(tiny())
    counts = [2, 0, 3, 1]
    with torch.no_grad():
        for stage in model.head.stages:
            stage.deltas.weight.normal_(std=0.5)
            stage.classes.weight.normal_(std=0.5)
        pyramid = model.eval().pyramid(model.preprocess(images(4))[0])
        pyramid = {level: x + torch.randn_like(x) for level, x in pyramid.items()}
        sizes, targets = [(70, 90), (64, 60), (70, 80), (65, 90)], [target(count) for count in counts]
        together = model.head.losses(pyramid, sizes, targets)
        alone = [
            model.head.losses({k: x[i : i + 1] for k, x in pyramid.items()}, sizes[i : i + 1], [targets[i]])
            for i in range(4)
        ]
    for name, loss in together.items():
        parts = sum(max(count, 1) * losses[name] for count, losses in zip(counts, alone, strict=True))
        torch.testing.assert_close(loss * sum(counts), parts, rtol=1e-4, atol=1e-4)


def test_more_objects_than_proposals():
    torch.manual_seed(0)
    losses = build_detector(tiny(proposals=2)).train()(images(), [target(3), target(1)])
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


def test_features_pass_gradients_between_stages_and_boxes_do_not():
    torch.manual_seed(0)
    model = build_detector(tiny()).train()
    losses = model(images(), [target(), target()])
    (losses["loss_ce"] + losses["loss_giou"]).backward()
    first = model.head.stages[0]
    assert first.interaction.kernels.weight.grad.abs().max() > 0
    assert first.deltas.weight.grad is None or not first.deltas.weight.grad.any()
    assert model.head.proposal_features.grad.abs().max() > 0
    assert model.head.proposal_boxes.grad is None or not model.head.proposal_boxes.grad.any()


def test_detections_are_the_best_pairs_without_suppression():
    torch.manual_seed(0)
    model = build_detector(tiny()).eval()
    for stage in model.head.stages:
        torch.nn.init.normal_(stage.deltas.weight, std=0.05)  # boxes move, but not out of the image
    with torch.no_grad():
        found = model(images())
        batch, sizes = model.preprocess(images())
        features, boxes = model.head._iterations(model.pyramid(batch), sizes)[-1]
        scores = model.head.stages[-1].classify(features).sigmoid()
    assert torch.equal(model.head._initial_boxes([(70, 90)])[0, 0], torch.tensor([0.0, 0.0, 90.0, 70.0]))
    for detections, image_boxes, image_scores in zip(found, boxes, scores, strict=True):
        best, order = image_scores.flatten().topk(10)
        torch.testing.assert_close(detections.scores, best)
        assert torch.equal(detections.labels, order % 3)
        clipped = image_boxes[order // 3].clamp(min=0).minimum(torch.tensor([90.0, 70, 90, 70]))
        torch.testing.assert_close(detections.boxes, clipped)
    threshold = found[0].scores[3].item()
    model.head.inference = tiny(threshold=threshold).inference
    with torch.no_grad():
        assert len(model(images())[0]) == 3
        assert len(model([torch.zeros(3, 1, 1, dtype=torch.uint8)])[0]) <= 10


def test_matching_is_the_cheapest_of_all():
    """Against every way to pair them, for two images of 2 and 3 boxes in 4 sets of 4 predictions."""
    costs = torch.rand(5, 4, 4, generator=torch.Generator().manual_seed(0))
    truth, prediction = match_sets(costs, [2, 0, 3])
    assert truth.shape == prediction.shape == (4, 5)
    for stage in range(4):
        assert truth[stage].tolist() == [0, 1, 2, 3, 4]
        for rows in ([0, 1], [2, 3, 4]):
            chosen = costs[rows, stage, prediction[stage, rows]].sum()
            ways = [costs[rows, stage, list(way)].sum() for way in permutations(range(4), len(rows))]
            assert chosen == pytest.approx(min(ways).item())


def test_costs_that_are_not_finite_end_in_no_error():
    """The loss is not finite then, which stops the training with its name."""
    costs = torch.tensor([[[torch.nan, 1.0]], [[torch.inf, -torch.inf]]])
    assert [part.shape for part in match_sets(costs, [2])] == [(1, 2), (1, 2)]
    assert [part.shape for part in match_sets(costs[:0], [0, 0])] == [(1, 0), (1, 0)]


def test_generalized_iou():
    first, second = BOXES[:, None], torch.tensor([[50.0, 40, 55, 60], [4, 6, 40, 50], [0, 0, 1, 1]])
    torch.testing.assert_close(generalized_iou(first, second), generalized_box_iou(BOXES, second))


def test_names_map_in_both_directions():
    names = list(build_detector(tiny(upsampler="afi")).state_dict())
    assert [n for n in names if to_detectron2(n) is None or to_ours(to_detectron2(n)) != n] == []


def test_widths_that_the_attention_cannot_deal_out_are_refused():
    with pytest.raises(ValueError, match=r"multiple of sparse_rcnn.attention_heads \(8\), got 20"):
        model_config(detector="sparse_rcnn", neck=NeckConfig(channels=20))
