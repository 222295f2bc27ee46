"""The two-stage detectors against detectron2 and AFI-GAN, weights loaded from their own formats."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity_cases import ParityCase, box_errors, pair, score_errors
from parity_configs import config_of

from srfgan.models import build_detector
from srfgan.models.ops.boxes import decode_boxes
from srfgan.models.ops.pooling import pool_boxes
from srfgan.models.weights import load_weights
from srfgan.models.weights.names import to_detectron2, to_ours

KINDS = ("two_stage",)
PROPOSALS = 0.01
"""Pixels."""


@pytest.fixture(scope="module")
def run(case_folder, weight_file):
    """One case with its loaded model and a forward pass in evaluation mode."""
    case = ParityCase(case_folder)
    config = config_of(case.spec)
    model = build_detector(config).eval()
    report = load_weights(model, weight_file(case))
    images = case.rgb_images()
    count = len(images)
    calls = []
    hook = model.neck.upsample.register_forward_hook(lambda *args: calls.append(args[-1]))
    with torch.no_grad():
        batch, sizes = model.preprocess(images)
        features = model.backbone(batch)
        pyramid = model.neck(features)
    hook.remove()
    return SimpleNamespace(**locals())


def test_every_tensor_is_loaded(run):
    assert run.report.complete, run.report.summary()
    assert run.report.loaded == len(run.case.spec["parameters"])


def test_names_map_in_both_directions(run):
    wiring = "afigan" if run.config.neck.name == "bifpn" else None
    for name in run.case.spec["parameters"]:
        assert to_detectron2(to_ours(name), wiring) == name


def test_features(run):
    if "neck_p3" not in run.case.golden:
        pytest.skip("this case stores detections and losses only")
    check, golden = run.case.assert_close, run.case.golden
    padded = run.case.spec.get("padded_input_size")
    assert padded is None or tuple(run.batch.shape[-2:]) == tuple(padded)
    if "input_normalized" in golden:
        check("input_normalized", run.batch)
    for name, feature in run.features.items():
        for key in (f"backbone_{name}", f"backbone_{name.replace('res', 'stage')}"):
            if key in golden:
                check(key, feature)
    assert tuple(run.pyramid) == run.config.levels
    for level, feature in run.pyramid.items():
        check(f"neck_{level}", feature)
    for index, output in enumerate(run.calls):
        if f"generator_call{index}" in golden:
            check(f"generator_call{index}", output)


def test_proposals(run):
    case, golden = run.case, run.case.golden
    if not case.has("proposals_boxes"):
        pytest.skip("this case stores detections and losses only")
    rpn = run.model.head.rpn
    with torch.no_grad():
        logits, deltas = rpn(run.pyramid)
        anchors = rpn.anchors(logits)
        proposals, _ = rpn.propose(run.pyramid, run.sizes)
    for index, level in enumerate(run.config.levels):
        for name, x in (("logits", logits[index]), ("deltas", deltas[index])):
            if f"rpn_{name}_{level}" in golden:
                case.assert_close(f"rpn_{name}_{level}", x)
        if f"anchors_{level}" in golden:
            stored = golden[f"anchors_{level}"]
            case.assert_equal(f"anchors_{level}", anchors[index][: len(stored)], stored, 1e-6)
    for index, found in enumerate(proposals):
        # Neighbours in the list may have equal scores: whether each is there, whatever its place.
        best = case.of_image("proposals_boxes", index, run.count)
        there = int((pair(box_errors(best, found) <= PROPOSALS) >= 0).sum())
        assert len(best) - there <= case.may_miss, (
            f"{there} of the reference's {len(best)} best proposals of image {index}"
        )
        wanted = int(case.of_image("proposals_count", index, run.count))
        assert abs(len(found) - wanted) <= case.may_miss, (
            f"{len(found)} proposals in image {index}, the reference has {wanted}"
        )


def test_heads_on_fixed_boxes(run):
    if "fixed_logits" not in run.case.golden:
        pytest.skip("this case stores detections and losses only")
    check, equal, golden, head = run.case.assert_close, run.case.assert_equal, run.case.golden, run.model.head
    maps, boxes = fixed(run)
    rows = len(boxes[0]) * len(boxes)
    with torch.no_grad():
        check("fixed_box_pooled", pool_boxes(maps, boxes, 7))
        logits, deltas = head.box(maps, boxes)
        check("fixed_logits", logits)
        stored = golden["fixed_deltas"]
        equal("fixed_deltas", deltas.flatten(1)[:, : stored.shape[1]], stored)
        decoded = decode_boxes(deltas, torch.cat(boxes)[:, None], (10.0, 10.0, 5.0, 5.0))
        stored = golden["fixed_decoded_boxes"]
        equal("fixed_decoded_boxes", decoded.flatten(1)[:, : stored.shape[1]], stored)
        if "fixed_mask_logits" not in golden:
            return
        check("fixed_mask_pooled", pool_boxes(maps, boxes, 14))
        classes = range(golden["fixed_mask_logits"].shape[1])
        masks = [head.mask(maps, boxes, torch.full((rows,), k)) for k in classes]
    check("fixed_mask_logits", torch.stack(masks, dim=1))


def fixed(run):
    """Maps and boxes: the fixed boxes on the first image, or on each if the case has them so."""
    boxes = torch.from_numpy(run.case.golden["fixed_boxes"])
    stored = next(v for k, v in run.case.golden.items() if k in ("fixed_logits", "fixed_stage0_logits"))
    images = run.count if len(stored) == run.count * len(boxes) else 1
    return {level: run.pyramid[level][:images] for level in run.config.pool_levels}, [boxes] * images


def test_cascade_refines_fixed_boxes(run):
    check, golden = run.case.assert_close, run.case.golden
    if "fixed_stage0_boxes" not in golden:
        pytest.skip("not a cascade")
    maps, boxes = fixed(run)
    with torch.no_grad():
        for index, stage in enumerate(run.model.head.box.stages):
            check(f"fixed_stage{index}_boxes", torch.cat(boxes))
            logits, deltas = stage(maps, boxes)
            check(f"fixed_stage{index}_logits", logits)
            check(f"fixed_stage{index}_deltas", deltas[:, 0])
            decoded = decode_boxes(deltas[:, 0], torch.cat(boxes), stage.weights)
            boxes = [refined[:, 0] for refined in stage.refine(deltas, boxes, run.sizes[: len(boxes)])]
    check("fixed_final_boxes", decoded)


def test_detections(run):
    case = run.case
    with torch.no_grad():
        detections = run.model(run.images)
    for index, (found, size) in enumerate(zip(detections, run.sizes, strict=True)):
        partner = case.assert_detections(index, run.count, found)
        if run.config.has_masks:
            assert found.masks.shape == (len(found), *size)
        if run.config.has_masks and case.has("det_masks"):
            stored = case.of_image("det_masks", index, run.count)
            there = np.flatnonzero(partner[: len(stored)] >= 0)
            error = np.abs(found.mask_probs[partner[there]].numpy() - stored[there]).max(initial=0)
            case.check("scores", "det_masks", error)


def test_training_losses_and_gradients(run, monkeypatch):
    case = run.case
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    sampled = []
    head = run.model.head
    original = type(head.box).sample
    monkeypatch.setattr(
        head.box, "sample", lambda *args: sampled.extend(original(head.box, *args)) or sampled
    )
    case.train(run.model)
    losses = run.model(run.images, case.targets(run.count, masks=case.has("gt_polygons")))
    run.model.eval()
    if case.has("train_sampled_boxes"):
        for index, found in enumerate(sampled):
            boxes, classes = (
                case.of_image(f"train_sampled_{key}", index, run.count) for key in ("boxes", "classes")
            )
            assert len(found.boxes) == len(boxes)
            # Proposals with nearly equal logits may change places, so they are compared as a set.
            fits = (box_errors(boxes, found.boxes) <= PROPOSALS) & (score_errors(classes, found.labels) == 0)
            missing = int((~fits.any(axis=1)).sum() + (~fits.any(axis=0)).sum())
            assert missing <= 2 * case.may_miss, (
                f"{missing} boxes of those that train image {index} are others"
            )
    case.assert_losses(losses)
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    case.assert_gradients(parameters)
    trainable = [name for name, p in parameters.items() if p.requires_grad]
    assert [name for name in trainable if parameters[name].grad is None] == []
    frozen = [name for name, p in parameters.items() if not p.requires_grad]
    if run.config.backbone.freeze_at in (0, 2):
        stages = {"conv1", "layer1"} if run.config.backbone.freeze_at else set()
        assert {name.split(".")[2] for name in frozen} == stages
