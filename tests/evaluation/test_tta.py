"""Multi-scale testing: exact against a naive reference, and what must hold whatever the detector."""

import json

import pytest
import torch
from detector_configs import model_config
from torch.nn.functional import interpolate
from torchvision.ops import batched_nms, box_iou

from srfgan.models import build_detector
from srfgan.models.config import (
    BackboneConfig,
    BoxHeadConfig,
    FCOSHeadConfig,
    InferenceConfig,
    MaskHeadConfig,
    NeckConfig,
    RetinaNetHeadConfig,
    RPNConfig,
    SparseHeadConfig,
    TwoStageConfig,
)
from srfgan.models.structures import Detections
from srfgan_cli.evaluation.tta import MultiScale, make_views, merge
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import TTAConfig
from srfgan_cli.runs.published import published_row

SPREAD = {"objectness": 2.0, "deltas": 0.5, "sides": 2.0, "centerness": 1.0, "classes": 2.0, "logits": 2.0}
"""Standard deviation of what each last layer gives."""
DETECTORS = [
    "faster_rcnn",
    "mask_rcnn",
    "cascade_mask_rcnn",
    "panet",
    "tridentnet",
    "libra_rcnn",
    "retinanet",
    "fcos",
    "atss",
    "centermask",
    "sparse_rcnn",
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def detector(name="mask_rcnn", **inference):
    """Random weights, scaled such that there are boxes of all classes, with scores far apart."""
    torch.manual_seed(0)
    config = model_config(
        detector=name,
        num_classes=3,
        backbone=BackboneConfig(name="r10", norm="bn", freeze_at=0),
        neck=NeckConfig(channels=64 if name in ("fcos", "atss", "centermask") else 16, upsampler="nn"),
        rpn=RPNConfig(post_nms_topk_test=40),
        box_head=BoxHeadConfig(fc_dim=32),
        mask_head=MaskHeadConfig(channels=16, num_convs=1),
        retinanet=RetinaNetHeadConfig(num_convs=1, pre_nms_topk=60),
        fcos=FCOSHeadConfig(num_convs=1, pre_nms_topk=60),
        atss={"num_convs": 1, "pre_nms_topk": 60, "anchor_strides": 4.0},
        sparse_rcnn=SparseHeadConfig(num_proposals=40, stages=2, feedforward_width=32, dynamic_width=8),
        inference=InferenceConfig(**({"score_threshold": 0.3, "detections_per_image": 30} | inference)),
    )
    model = build_detector(config).eval()
    for key, layer in model.head.named_modules():
        if (last := key.split(".")[-1]) in SPREAD:
            rescale_once(layer, SPREAD[last])
    with torch.no_grad():
        model.detect([picture()])
    return model


def rescale_once(layer, spread):
    """Let the layer's first output, the finest level's, have this standard deviation."""

    def rescale(layer, inputs, output):
        hook.remove()
        layer.weight.mul_(spread / output.std())
        layer.bias.zero_()
        return layer(*inputs)

    hook = layer.register_forward_hook(rescale)


def picture(height=70, width=90):
    noise = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(1)) * 255
    return interpolate(noise, (height, width), mode="bilinear")[0].to(torch.uint8)


@torch.inference_mode()
def detect(model, image, **tta):
    return MultiScale(model, TTAConfig(enabled=True, **tta)).detect([image])[0]


def assert_same(found: Detections, expected: Detections, **tolerance):
    assert len(found) == len(expected) > 0
    assert found.labels.tolist() == expected.labels.tolist()
    for name in ("boxes", "scores", "mask_probs", "mask_scores"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), **tolerance)


@torch.inference_mode()
def naive(model, image, sides):
    """The rule, step by step, with nothing shared but the detector."""
    height, width = image.shape[1:]
    views, candidates = [], []
    for side in sides:
        new = (round(height * side / min(height, width)), round(width * side / min(height, width)))
        small = interpolate(image[None], new, mode="bilinear", antialias=True)[0]
        views += [(small, False), (small.flip(2), True)]
    for view, flipped in views:
        found = model.detect([view])[0]
        scale = torch.tensor([width / view.shape[2], height / view.shape[1]] * 2)
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            if flipped:
                box = torch.stack([view.shape[2] - box[2], box[1], view.shape[2] - box[0], box[3]])
            candidates.append((box * scale, score, int(label)))
    kept = []
    for box, score, label in sorted(candidates, key=lambda candidate: -float(candidate[1])):
        rivals = [other for other, _, theirs in kept if theirs == label]
        if not rivals or box_iou(box[None], torch.stack(rivals)).max() <= 0.5:
            kept.append((box, score, label))
    kept = kept[: model.config.inference.detections_per_image]
    boxes, scores = torch.stack([k[0] for k in kept]), torch.stack([k[1] for k in kept])
    labels = torch.tensor([k[2] for k in kept])
    probs = []
    for view, flipped in views:
        batch, _ = model.preprocess([view])
        seen = boxes / torch.tensor([width / view.shape[2], height / view.shape[1]] * 2)
        if flipped:
            seen = torch.stack(
                [view.shape[2] - seen[:, 2], seen[:, 1], view.shape[2] - seen[:, 0], seen[:, 3]], 1
            )
        mask = model.head.mask(model.pyramid(batch), [seen], labels).sigmoid()
        probs.append(mask.flip(2) if flipped else mask)
    return Detections(boxes, scores, labels, mask_probs=torch.stack(probs).mean(0))


@pytest.mark.parametrize("name", ["mask_rcnn", "cascade_mask_rcnn"])
def test_it_is_the_naive_rule(name):
    model, image, sides = detector(name), picture(), [48, 64, 100]
    found = detect(model, image, short_sides=sides)
    assert_same(found, naive(model, image, sides), rtol=1e-4, atol=1e-4)
    assert len(set(found.labels.tolist())) > 1
    one_scale = naive(model, image, sides[:1])
    assert len(one_scale) != len(found) or not torch.allclose(one_scale.scores, found.scores)


@pytest.mark.parametrize("name", DETECTORS)
def test_one_view_is_the_plain_detection(name):
    """NMS over what NMS has left leaves all of it; a repeated view adds nothing, neither boxes nor masks.

    One-stage heads clip their boxes after NMS, so there what the clipping brought together is joined; Sparse R-CNN
    has no NMS of its own.
    """
    model, image = detector(name), picture()
    with torch.inference_mode():
        plain = model.detect([image])[0]
    if not isinstance(model.config, TwoStageConfig):
        keep = batched_nms(plain.boxes, plain.scores, plain.labels, 0.5)
        plain = plain.select(keep)
    once = detect(model, image, short_sides=[70], flip=False)
    assert_same(detect(model, image, short_sides=[70, 70], flip=False), once, rtol=1e-5, atol=1e-6)
    if name == "centermask":
        # Its plain masks are made of the boxes before clipping.
        inside = (plain.boxes > 0).all(1) & (plain.boxes < torch.tensor([90.0, 70.0, 90.0, 70.0])).all(1)
        assert_same(
            Detections(once.boxes, once.scores, once.labels),
            Detections(plain.boxes, plain.scores, plain.labels),
        )
        once, plain = once.select(inside), plain.select(inside)
    assert_same(once, plain, rtol=1e-5, atol=1e-4)
    assert len(detect(model, image, short_sides=[64, 96])) > 0


@pytest.mark.parametrize("name", ["mask_rcnn", "retinanet", "centermask"])
def test_the_mirror_image_has_the_mirrored_result(name):
    """The views of both are the same pictures, so the result mirrors exactly, although no network is symmetric."""
    model, image = detector(name), picture()
    found = detect(model, image, short_sides=[70])
    mirrored = detect(model, image.flip(2), short_sides=[70])
    x0, y0, x1, y1 = mirrored.boxes.unbind(1)
    mirrored.boxes = torch.stack([90 - x1, y0, 90 - x0, y1], 1)
    if mirrored.mask_probs is not None:
        mirrored.mask_probs = mirrored.mask_probs.flip(2)
    assert_same(mirrored, found, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        assert not torch.allclose(
            model.detect([image.flip(2)])[0].scores[:5], model.detect([image])[0].scores[:5]
        )


@pytest.mark.parametrize("size", [(3, 500), (400, 2), (1, 1)])
def test_images_with_a_tiny_or_huge_side(size):
    """The long side is limited, nothing found is no error, and boxes stay in the image."""
    image = picture(*size)
    views = make_views(size, TTAConfig(short_sides=[32, 64], max_side=128))
    assert all(max(view.size) <= 128 and min(view.size) >= 2 for view in views) and len(views) == 4
    for threshold in (0.3, 1.0):
        model = detector(score_threshold=threshold)
        found = detect(model, image, short_sides=[32, 64], max_side=128)
        assert found.mask_probs.shape == (len(found), 28, 28)
        limits = torch.tensor([size[1], size[0], size[1], size[0]])
        assert (found.boxes >= 0).all() and (found.boxes <= limits).all()
        assert threshold < 1 or len(found) == 0


def test_merging_keeps_the_best_of_each_class():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 90, 99], [0, 0, 10, 10]])
    first = Detections(boxes[:2], torch.tensor([0.5, 0.4]), torch.tensor([0, 0]))
    second = Detections(boxes[2:], torch.tensor([0.9, 0.6]), torch.tensor([0, 1]))
    third = Detections(boxes[:1] + 20, torch.tensor([1e-9]), torch.tensor([0]))
    found = merge([first, second, third], (60, 80), InferenceConfig(detections_per_image=3))
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.5]) and found.labels.tolist() == [0, 1, 0]
    assert found.boxes[0].tolist() == [50, 50, 80, 60], "clipped to the image"


def test_a_preset_that_only_evaluates_takes_the_published_weights_of_the_detector():
    assert weights_address("cascade_s101_fpn_tta") == weights_address("cascade_s101_fpn") is not None
    assert weights_address("cascade_s101_pafpn_tta") != weights_address("cascade_s101_pafpn"), (
        "AFI-GAN's own file"
    )


def weights_address(preset):
    return published_row(load_preset(preset)).weights


ROWS = """
mine:
  {document: mine, split: val2017, about: "", common: {detector: mask_rcnn, backbone: r18, neck: fpn}, rows: {
    once: {box: {AP: 1.0}}, often: {box: {AP: 2.0}, tta: true}}}
server:
  {document: mine, split: test-dev, about: "", common: {detector: mask_rcnn, backbone: r18, neck: fpn}, rows: {
    once: {box: {AP: 3.0}}}}
"""


@pytest.mark.parametrize("enabled", [False, True])
def test_a_training_is_held_against_the_row_of_its_split(enabled, srfgan, tiny, tmp_path, more_tables):
    """It was the first, as of test-dev; scores at one scale in between have none of multi-scale testing."""
    more_tables(ROWS)
    own = tmp_path / "own.yaml"
    own.write_text(
        json.dumps({"base": "mask_rcnn_r18_fpn_nn", "rows": ["server/once", "mine/often", "mine/once"]})
    )
    several = [f"evaluation.tta.enabled={enabled}", "evaluation.tta.short_sides=[48]"]
    short = ["--iterations", 1, "--json"]
    done = srfgan("finetune", "--preset", own, *tiny("finetune.solver.evaluate_every=1", *several), *short)
    assert done.code == 0, done.err
    assert json.loads(done.out)["evaluation"]["reference"]["box"] == {"AP": 2.0 if enabled else 1.0}


def test_through_the_command_line(srfgan, tiny, tmp_path, more_tables):
    """A preset that only evaluates finds the other's detector, reports beside the right row, and trains nothing."""
    plain = "mask_rcnn_r18_fpn_nn"
    trained = srfgan(
        "finetune", "--preset", plain, *tiny("finetune.solver.evaluate_every=0"), "--iterations", 1
    )
    assert trained.code == 0, trained.err
    more_tables(ROWS)
    rows = ["mine/once", "mine/often"]
    own = tmp_path / "mine_tta.yaml"
    own.write_text(json.dumps({"base": plain, "sources": {"detector": plain}, "rows": rows}))
    scales = ["--set", "evaluation.tta.short_sides=[48, 64]"]
    options = ["eval", "--preset", own, *tiny("model.inference.score_threshold=0.0"), "--json"]
    report = json.loads(srfgan(*options).out)
    assert (report["tta"], report["reference"]["box"]["AP"]) == (False, 1.0)
    done = srfgan(*options, "--tta", *scales)
    assert done.code == 0 and "4 views of each image" in done.err, done.err
    scored = json.loads(done.out)
    assert (scored["tta"], scored["reference"]["box"]["AP"], scored["images"]) == (True, 2.0, 4)
    folder = tmp_path / "runs/finetune" / plain
    assert scored["results"] == f"runs/finetune/{plain}/results_tta.json"
    assert json.loads((folder / "results_tta.json").read_text()) != json.loads(
        (folder / "results.json").read_text()
    )
    again = json.loads(srfgan(*options, "--tta", "--from", folder / "results_tta.json").out)
    assert again["tta"] and again["box"] == scored["box"]

    # A training can end with it.
    several = tiny("model.inference.score_threshold=0.0", "evaluation.tta.enabled=true")
    short = ["--iterations", 1, "--output-dir", "several", "--json"]
    done = srfgan("finetune", "--preset", plain, *several, *scales, *short, "--precision", "bf16")
    assert done.code == 0 and done.err.count("4 views of each image") == 1, done.err
    ended = json.loads(done.out)["evaluation"]
    scored = json.loads(srfgan(*options, "--tta", *scales, "--weights", "several/model.pt").out)
    assert ended["tta"] and ended["box"] == scored["box"] and ended["mask"] == scored["mask"]
    single = json.loads(srfgan(*options, "--weights", "several/model.pt", "--output-dir", "x").out)
    logged = [json.loads(line) for line in (tmp_path / "several/metrics.jsonl").read_text().splitlines()]
    assert [line["evaluation"]["box"] for line in logged if "evaluation" in line] == [single["box"]]
    assert single["box"] != scored["box"] or single["mask"] != scored["mask"]

    drawn = [
        "visualize",
        "detections",
        "--preset",
        own,
        "--set",
        "evaluation.tta.enabled=true",
        *tiny(),
        *scales,
    ]
    assert srfgan(*drawn).code == 0
    refused = srfgan("finetune", "--preset", own)
    assert refused.code == 2
    assert f"only evaluates the detector of '{plain}': train that one" in " ".join(refused.err.split())
