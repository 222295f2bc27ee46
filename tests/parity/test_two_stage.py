"""The presets' two-stage detectors against detectron2 and AFI-GAN, weights loaded from their own formats."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models import Target, build_detector
from models.ops.boxes import decode_boxes
from models.ops.pooling import pool_boxes
from models.structures import Polygons
from models.weights import load_weights
from models.weights.names import to_detectron2, to_ours
from srfgan_cli.presets import load_preset

CASES = {
    "d2_mask_rcnn_r50_fpn": ("mask_rcnn_r50_fpn_nn",),
    "afi_mask_rcnn_r50_fpn": ("mask_rcnn_r50_fpn_afi",),
    "afi_mask_rcnn_r50_pafpn": ("mask_rcnn_r50_pafpn",),
    "d2_faster_rcnn_r50_fpn": ("faster_rcnn_r50_fpn_nn",),
    "d2_cascade_mask_rcnn_r50_fpn": (
        "mask_rcnn_r50_fpn_nn",
        "model.detector=cascade_mask_rcnn",
        "model.rpn.post_nms_topk_train=2000",
    ),
    "afi_cascade_mask_rcnn_s101_pafpn": ("cascade_s101_pafpn",),
    "afi_cascade_mask_rcnn_s101_fpn": ("cascade_s101_fpn",),
    "afi_cascade_mask_rcnn_swint_bifpn": (
        "cascade_rcnn_swin_t_bifpn",
        "model.detector=cascade_mask_rcnn",
        "model.mask_head.norm=bn",
    ),
    "afi_cascade_mask_rcnn_swin_bifpn": ("cascade_rcnn_swin_l_bifpn_tta",),
}
"""Preset and changes; the last two are named as the references' configurations are."""
SLOW = {"afi_cascade_mask_rcnn_s101_fpn", "afi_cascade_mask_rcnn_swin_bifpn"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES],
)
def run(request, load_case, weight_file):
    """One case with its loaded model and a forward pass in evaluation mode."""
    case = load_case(request.param)
    preset, *changes = CASES[request.param]
    threshold = f"model.inference.score_threshold={case.spec['score_threshold_test']}"
    config = load_preset(preset, [*changes, threshold]).model
    model = build_detector(config).eval()
    report = load_weights(model, weight_file(case))
    image = case.rgb_image()
    calls = []
    hook = model.neck.upsample.register_forward_hook(lambda *args: calls.append(args[-1]))
    with torch.no_grad():
        batch, sizes = model.preprocess([image])
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
    if "input_normalized" in golden:
        check("input_normalized", run.batch[:, :, ::4, ::4])
    for name, feature in run.features.items():
        if f"backbone_{name}" in golden:
            check(f"backbone_{name}", feature[:, ::16])
    assert tuple(run.pyramid) == run.config.levels
    for level, feature in run.pyramid.items():
        step = feature.shape[1] // golden[f"neck_{level}"].shape[1]
        check(f"neck_{level}", feature[:, ::step])
    for index, output in enumerate(run.calls):
        if f"generator_call{index}" in golden:
            check(f"generator_call{index}", output[:, ::32])


def test_proposals(run):
    golden = run.case.golden
    if "proposals_boxes" not in golden:
        pytest.skip("this case stores detections and losses only")
    rpn = run.model.head.rpn
    with torch.no_grad():
        logits, deltas = rpn(run.pyramid)
        anchors = rpn.anchors(logits)
        proposals, _ = rpn.propose(run.pyramid, run.sizes)
    for index, level in enumerate(run.config.levels):
        step = 2 if index < 2 else 1
        for name, x in (("logits", logits[index]), ("deltas", deltas[index])):
            if f"rpn_{name}_{level}" in golden:
                run.case.assert_close(f"rpn_{name}_{level}", x[:, :, ::step, ::step])
        if f"anchors_{level}" in golden:
            run.case.assert_close(f"anchors_{level}", anchors[index][:12], 1e-6)
    assert len(proposals[0]) == golden["proposals_count"]
    np.testing.assert_allclose(proposals[0][:50].numpy(), golden["proposals_boxes"], atol=0.01)


def test_heads_on_fixed_boxes(run):
    if "fixed_logits" not in run.case.golden:
        pytest.skip("this case stores detections and losses only")
    check, head = run.case.assert_close, run.model.head
    boxes = torch.from_numpy(run.case.golden["fixed_boxes"])
    maps = {level: run.pyramid[level] for level in run.config.pool_levels}
    with torch.no_grad():
        check("fixed_box_pooled", pool_boxes(maps, [boxes], 7)[:, ::32])
        check("fixed_mask_pooled", pool_boxes(maps, [boxes], 14)[:, ::64, ::2, ::2])
        logits, deltas = head.box(maps, [boxes])
        check("fixed_logits", logits)
        check("fixed_deltas", deltas.flatten(1)[:, :80])
        decoded = decode_boxes(deltas, boxes[:, None], (10.0, 10.0, 5.0, 5.0))
        check("fixed_decoded_boxes", decoded.flatten(1)[:, :80])
        masks = [head.mask(maps, [boxes], torch.full((36,), k)) for k in range(4)]
    check("fixed_mask_logits", torch.stack(masks, dim=1)[::2])


def test_cascade_refines_fixed_boxes(run):
    check, golden = run.case.assert_close, run.case.golden
    if "fixed_stage0_boxes" not in golden:
        pytest.skip("not a cascade")
    boxes = torch.from_numpy(golden["fixed_boxes"])
    maps = {level: run.pyramid[level] for level in run.config.pool_levels}
    with torch.no_grad():
        for index, stage in enumerate(run.model.head.box.stages):
            check(f"fixed_stage{index}_boxes", boxes)
            logits, deltas = stage(maps, [boxes])
            check(f"fixed_stage{index}_logits", logits)
            check(f"fixed_stage{index}_deltas", deltas[:, 0])
            decoded = decode_boxes(deltas[:, 0], boxes, stage.weights)
            boxes = stage.refine(deltas, [boxes], run.sizes)[0][:, 0]
    check("fixed_final_boxes", decoded)


def test_detections(run):
    golden = run.case.golden
    with torch.no_grad():
        found = run.model([run.image])[0]
    assert len(found) == len(golden["det_boxes"])
    near = np.abs(found.boxes.numpy()[None] - golden["det_boxes"][:, None]).max(-1) <= 0.05
    near &= np.abs(found.scores.numpy()[None] - golden["det_scores"][:, None]) <= 1e-3
    near &= found.labels.numpy()[None] == golden["det_classes"][:, None]
    assert near.any(axis=1).all(), "a detection of the reference is missing"
    if "det_masks" in golden:
        first = near.argmax(axis=1)[: len(golden["det_masks"])]
        np.testing.assert_allclose(found.mask_probs[first].numpy(), golden["det_masks"], atol=1e-3)
        assert found.masks.shape == (len(found), 256, 320)


def test_training_losses_and_gradients(run, monkeypatch):
    golden, expected = run.case.golden, run.case.spec["training_check"]
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n, **kwargs))
    target = Target(
        torch.from_numpy(golden["gt_boxes"]),
        torch.from_numpy(golden["gt_classes"]),
        [Polygons((outline,)) for outline in golden["gt_polygons"]],
    )
    sampled = []
    head = run.model.head
    original = type(head.box).sample
    monkeypatch.setattr(
        head.box, "sample", lambda *args: sampled.extend(original(head.box, *args)) or sampled
    )
    run.case.train(run.model)
    losses = run.model([run.image], [target])
    run.model.eval()
    assert set(losses) == set(expected["losses"])
    for name, value in expected["losses"].items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    if "train_sampled_boxes" in golden:
        np.testing.assert_array_equal(sampled[0].labels.numpy(), golden["train_sampled_classes"])
        # Proposals with nearly equal logits may change places, so the boxes are compared as a set.
        distance = np.abs(sampled[0].boxes.numpy()[None] - golden["train_sampled_boxes"][:, None]).max(-1)
        assert max(distance.min(axis=0).max(), distance.min(axis=1).max()) <= 0.01
    run.model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    parameters = dict(run.model.named_parameters())
    for name, value in expected["gradient_norms"].items():
        assert parameters[to_ours(name)].grad.norm().item() == pytest.approx(value, rel=1e-3), name
    trainable = [name for name, p in parameters.items() if p.requires_grad]
    assert [name for name in trainable if parameters[name].grad is None] == []
    frozen = [name for name, p in parameters.items() if not p.requires_grad]
    is_swin = run.config.backbone.name.startswith("swin")
    assert {name.split(".")[2] for name in frozen} == (set() if is_swin else {"conv1", "layer1"})
