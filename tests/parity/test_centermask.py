"""CenterMask against CenterMask2, weights loaded from its own format."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity_cases import ParityCase, box_errors, score_errors
from parity_configs import config_of

from srfgan.models import build_detector
from srfgan.models.ops.mask_iou import mask_iou_targets, visible_shares
from srfgan.models.ops.masks import mask_targets
from srfgan.models.ops.pooling import assign_levels_by_share
from srfgan.models.weights import load_weights
from srfgan.models.weights.names import to_detectron2, to_ours

KINDS = ("centermask",)
LEVELS = ["p3", "p4", "p5", "p6", "p7"]


@pytest.fixture(scope="module")
def run(case_folder, weight_file):
    """The case with its loaded model and a pyramid in evaluation mode."""
    case = ParityCase(case_folder)
    config = config_of(case.spec)
    model = build_detector(config).eval()
    report = load_weights(model, weight_file(case))
    images = case.rgb_images()
    count = len(images)
    with torch.no_grad():
        batch, sizes = model.preprocess(images)
        pyramid = model.pyramid(batch)
    golden = {name: torch.from_numpy(value) for name, value in case.golden.items()}
    targets = case.targets(count, masks=True)
    return SimpleNamespace(**locals())


def test_every_tensor_is_loaded_and_named_as_there(run):
    assert run.report.complete, run.report.summary()
    assert run.report.loaded == len(run.case.spec["parameters"])
    assert sum(p.numel() for p in run.model.parameters()) == run.case.spec.get("num_parameters", 51_227_852)
    for name in run.case.spec["parameters"]:
        assert to_detectron2(to_ours(name)) == name


def test_pyramid_and_fcos_maps(run):
    with torch.no_grad():
        maps = run.model.head.fcos(run.pyramid)
    for index, level in enumerate(LEVELS):
        run.case.assert_close(f"neck_{level}", run.pyramid[level])
        run.case.assert_close(f"cls_logits_{level}", maps.logits[index])
        run.case.assert_close(f"bbox_reg_{level}", maps.sides[index])
        run.case.assert_close(f"ctrness_{level}", maps.centerness[index])


def test_masks_and_their_scores_on_fixed_boxes(run):
    head, golden, check = run.model.head, run.golden, run.case.assert_close
    boxes, labels = golden["roi_boxes"], golden["roi_classes"]
    levels = assign_levels_by_share(boxes, run.sizes[0], 3, 5)
    assert torch.equal(levels - 3, golden["roi_levels"])
    first = {level: feature[:1] for level, feature in run.pyramid.items()}
    classes = range(golden["roi_mask_logits"].shape[1])
    with torch.no_grad():
        pooled = head.pool(first, [boxes], run.sizes[:1])
        logits = torch.stack([head.mask.predict(pooled, torch.full_like(labels, k)) for k in classes], dim=1)
        probs = head.mask.predict(pooled, labels).sigmoid()
        ious = head.mask_iou(pooled, probs)
    check("roi_mask_features", pooled[-len(golden["roi_mask_features"]) :])
    check("roi_mask_logits", logits)
    check("roi_mask_probs_own_class", probs[: len(golden["roi_mask_probs_own_class"])])
    check("roi_maskiou", ious)


def test_detections(run):
    """Masks are made of boxes that reach out of the image, and pasted into what is left of them."""
    case, head = run.case, run.model.head
    with torch.no_grad():
        raw = head.boxes(head.fcos(run.pyramid), run.config.inference)
        detections = run.model(run.images)
    for index, (outside, found) in enumerate(zip(raw, detections, strict=True)):
        boxes, scores, classes = (
            case.of_image(f"raw_{k}", index, run.count) for k in ("boxes", "scores", "classes")
        )
        errors = {"boxes": box_errors(boxes, outside.boxes), "scores": score_errors(scores, outside.scores)}
        same = classes[:, None] == outside.labels.numpy()
        before = case.assert_rows("boxes before they are clipped", errors, same, case.may_miss)
        after = case.assert_detections(index, run.count, found)
        assert found.boxes.amin() >= 0
        stored = case.of_image("det_mask_scores", index, run.count)
        there = np.flatnonzero(after >= 0)
        error = np.abs(found.mask_scores[after[there]].numpy() - stored[there])
        case.check("scores", "det_mask_scores", error.max(initial=0))
        areas = found.masks.sum(dim=(1, 2))[after[there]].numpy()
        assert np.abs(areas - case.of_image("det_mask_areas", index, run.count)[there]).max(initial=0) <= 4
        _masks_before(case, index, run.count, before, outside, found)


def _masks_before(case, index, count, before, outside, found):
    """The masks of the first boxes, by the box and the class that a clipped box came from."""
    stored = case.of_image("raw_masks_28", index, count)
    for mask, row in zip(stored, before, strict=False):
        if row < 0:
            continue
        same = (found.scores - outside.scores[row]).abs() + (found.labels != outside.labels[row])
        if float(same.min()) > 1e-6:
            continue  # nothing of it was left inside the image
        case.check(
            "scores", "raw_masks_28", float(np.abs(found.mask_probs[int(same.argmin())].numpy() - mask).max())
        )


def test_what_trains_the_masks(run, monkeypatch):
    if run.count > 1:
        pytest.skip("the case stores what trains the masks of one image")
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    golden, head, (target,) = run.golden, run.model.head, run.targets
    with torch.no_grad():
        (found,) = head.boxes(head.fcos(run.pyramid), head.proposing)
        (sample,) = head.sample([found.boxes], [target])
        pooled = head.pool(run.pyramid, [sample.boxes], run.sizes)
        logits = head.mask.predict(pooled, sample.labels)
        ious = head.mask_iou(pooled, logits.sigmoid()).gather(1, sample.labels[:, None])[:, 0]
    fits = box_errors(golden["train_fg_boxes"].numpy(), sample.boxes) <= 0.01
    same = score_errors(golden["train_fg_classes"].numpy(), sample.labels) == 0
    errors = {"boxes": box_errors(golden["train_fg_boxes"].numpy(), sample.boxes)}
    order = run.case.assert_rows("train_fg_boxes", errors, fits & same, 0)
    levels = assign_levels_by_share(sample.boxes, run.sizes[0], 3, 5)
    assert torch.equal(levels[order] - 3, golden["train_fg_levels"])
    truth = mask_targets(target.masks, sample.boxes, sample.matched, 28)
    np.testing.assert_array_equal(truth[order].numpy(), golden["train_mask_targets"].bool())
    run.case.assert_close("train_fg_mask_logits", logits[order])
    run.case.assert_close("train_fg_maskiou_pred", ious[order])
    shares = visible_shares(target.masks, sample.boxes, sample.matched)
    run.case.assert_close("train_maskiou_targets", mask_iou_targets(logits, truth, shares)[order], 1e-5)


def test_training_losses_and_gradients(run, monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    losses = run.model.train()(run.images, run.targets)
    run.model.eval()
    run.case.assert_losses(losses)
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    run.case.assert_gradients(parameters)
    trainable = [name for name, p in parameters.items() if p.requires_grad]
    assert [name for name in trainable if parameters[name].grad is None] == []
