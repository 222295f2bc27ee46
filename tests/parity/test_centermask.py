"""CenterMask R-50-FPN against CenterMask2, weights loaded from its own format."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models import Target, build_detector
from models.config import InferenceConfig, ModelConfig, NeckConfig
from models.ops.mask_iou import mask_iou_targets, visible_shares
from models.ops.masks import mask_targets
from models.ops.pooling import assign_levels_by_share
from models.structures import Polygons
from models.weights import load_weights
from models.weights.names import to_detectron2, to_ours

LEVELS = ["p3", "p4", "p5", "p6", "p7"]


@pytest.fixture(scope="module")
def run(load_case, weight_file):
    """The case with its loaded model and a pyramid in evaluation mode."""
    case = load_case("centermask2_r50_fpn")
    inference = InferenceConfig(score_threshold=case.spec["score_threshold_test"], nms_iou=0.6)
    config = ModelConfig(detector="centermask", neck=NeckConfig(upsampler="nn"), inference=inference)
    model = build_detector(config).eval()
    report = load_weights(model, weight_file(case))
    image = case.rgb_image()
    with torch.no_grad():
        batch, sizes = model.preprocess([image])
        pyramid = model.pyramid(batch)
    golden = {name: torch.from_numpy(value) for name, value in case.golden.items()}
    outlines = [Polygons((outline.reshape(-1, 2),)) for outline in case.golden["gt_polygons"]]
    target = Target(golden["gt_boxes"], golden["gt_classes"], outlines)
    return SimpleNamespace(**locals())


def test_every_tensor_is_loaded_and_named_as_there(run):
    assert run.report.complete, run.report.summary()
    assert run.report.loaded == len(run.case.spec["parameters"])
    assert sum(p.numel() for p in run.model.parameters()) == 51_227_852
    for name in run.case.spec["parameters"]:
        assert to_detectron2(to_ours(name)) == name


def test_pyramid_and_fcos_maps(run):
    with torch.no_grad():
        maps = run.model.head.fcos(run.pyramid)
    for index, level in enumerate(LEVELS):
        run.case.assert_close(f"neck_{level}", run.pyramid[level][:, ::32])
        run.case.assert_close(f"cls_logits_{level}", maps.logits[index][:, :80:16])
        run.case.assert_close(f"bbox_reg_{level}", maps.sides[index])
        run.case.assert_close(f"ctrness_{level}", maps.centerness[index])


def test_masks_and_their_scores_on_fixed_boxes(run):
    head, golden, check = run.model.head, run.golden, run.case.assert_close
    boxes, labels = golden["roi_boxes"], golden["roi_classes"]
    levels = assign_levels_by_share(boxes, (256, 320), 3, 5)
    assert torch.equal(levels - 3, golden["roi_levels"])
    with torch.no_grad():
        pooled = head.pool(run.pyramid, [boxes], run.sizes)
        logits = torch.stack([head.mask.predict(pooled, torch.full_like(labels, k)) for k in range(4)], dim=1)
        probs = head.mask.predict(pooled, labels).sigmoid()
        ious = head.mask_iou(pooled, probs)
    check("roi_mask_features", pooled[28:, ::32])
    check("roi_mask_logits", logits[:, :, ::4, ::2])
    check("roi_mask_probs_own_class", probs[:8])
    check("roi_maskiou", ious)


def test_detections(run):
    """Masks are made of boxes that reach out of the image, and pasted into what is left of them."""
    golden = run.golden
    head = run.model.head
    with torch.no_grad():
        (raw,) = head.boxes(head.fcos(run.pyramid), run.inference)
        (found,) = run.model([run.image])
    assert len(raw) == len(golden["raw_boxes"]) > len(found) == len(golden["det_boxes"])
    assert raw.boxes.amin() < 0 <= found.boxes.amin()
    torch.testing.assert_close(raw.boxes, golden["raw_boxes"], rtol=0, atol=0.05)
    torch.testing.assert_close(raw.scores, golden["raw_scores"], rtol=0, atol=1e-3)
    assert torch.equal(raw.labels, golden["raw_classes"])
    torch.testing.assert_close(found.boxes, golden["det_boxes"], rtol=0, atol=0.05)
    torch.testing.assert_close(found.scores, golden["det_scores"], rtol=0, atol=1e-3)
    torch.testing.assert_close(found.mask_scores, golden["det_mask_scores"], rtol=0, atol=1e-3)
    assert torch.equal(found.labels, golden["det_classes"])
    torch.testing.assert_close(found.mask_probs[:10], golden["raw_masks_28"], rtol=0, atol=1e-3)
    areas = found.masks.sum(dim=(1, 2))
    assert (areas - golden["det_mask_areas"]).abs().max() <= 4


def test_what_trains_the_masks(run, monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    golden, head = run.golden, run.model.head
    with torch.no_grad():
        (found,) = head.boxes(head.fcos(run.pyramid), head.proposing)
        (sample,) = head.sample([found.boxes], [run.target])
        pooled = head.pool(run.pyramid, [sample.boxes], run.sizes)
        logits = head.mask.predict(pooled, sample.labels)
        ious = head.mask_iou(pooled, logits.sigmoid()).gather(1, sample.labels[:, None])[:, 0]
    torch.testing.assert_close(sample.boxes, golden["train_fg_boxes"], rtol=0, atol=0.01)
    assert torch.equal(sample.labels, golden["train_fg_classes"])
    levels = assign_levels_by_share(sample.boxes, (256, 320), 3, 5)
    assert torch.equal(levels - 3, golden["train_fg_levels"])
    truth = mask_targets(run.target.masks, sample.boxes, sample.matched, 28)
    np.testing.assert_array_equal(truth.numpy(), golden["train_mask_targets"].bool())
    run.case.assert_close("train_fg_mask_logits", logits)
    run.case.assert_close("train_fg_maskiou_pred", ious)
    shares = visible_shares(run.target.masks, sample.boxes, sample.matched)
    run.case.assert_close("train_maskiou_targets", mask_iou_targets(logits, truth, shares), 1e-5)


def test_training_losses_and_gradients(run, monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    expected = run.case.spec["training_check"]
    losses = run.model.train()([run.image], [run.target])
    run.model.eval()
    assert set(losses) == set(expected["losses"])
    for name, value in expected["losses"].items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    for name, value in expected["gradient_norms"].items():
        assert parameters[to_ours(name)].grad.norm().item() == pytest.approx(value, rel=1e-3), name
    trainable = [name for name, p in parameters.items() if p.requires_grad]
    assert [name for name in trainable if parameters[name].grad is None] == []
