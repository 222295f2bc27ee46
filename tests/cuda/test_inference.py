"""Detection on a GPU, which is pretended: the CPU's results, and every wait of the host in a table.

The waits are those of a batch of two images, with the network on the device and the images in page-locked memory.
"""

import copy

import pytest
import torch
from detector_configs import fitting
from pretended_cuda import CUDA, PretendedTensor, held
from small_runs import HOST, SIZES, small_batch, small_detector

from srfgan.models.config import DETECTORS
from srfgan_cli.evaluation.evaluate import predict
from srfgan_cli.evaluation.tta import MultiScale
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets.config import TTAConfig

GPU = World(CUDA)
IMAGES, LEVELS = len(SIZES), 5
TTA = TTAConfig(short_sides=[64, 96], max_side=160)
VIEWS, BRANCHES = 4, 3

COUNTS = ("transfer.rows_where", "to host")
NMS = ("nms.nms", "nms")
PAIRS = ("dense.best_pairs", "nonzero")
RESULTS = ("structures.<lambda>", "to host")  # boxes, scores, labels, and what masks are ranked by
# Pasted and encoded on the device: how many runs there are, and the runs.
MASKS = {("device_masks.encode_masks", why): IMAGES for why in ("nonzero", "to host")}
TWO_STAGES = {
    ("rpn._suppress_together", "to host"): 1,
    NMS: IMAGES,
    ("box_head.select_detections", "nonzero"): IMAGES,
}
# Of each image's boxes, those that clipping left something of.
DENSE = {NMS: IMAGES, PAIRS: IMAGES * LEVELS}
WAITS = {
    "faster_rcnn": {**TWO_STAGES, COUNTS: 1, RESULTS: 3 * IMAGES},
    "cascade_rcnn": {**TWO_STAGES, COUNTS: 3, RESULTS: 3 * IMAGES},
    "libra_rcnn": {**TWO_STAGES, COUNTS: 1, RESULTS: 3 * IMAGES},
    "mask_rcnn": {**TWO_STAGES, **MASKS, COUNTS: 2, RESULTS: 3 * IMAGES},
    "cascade_mask_rcnn": {**TWO_STAGES, **MASKS, COUNTS: 4, RESULTS: 3 * IMAGES},
    "panet": {**TWO_STAGES, **MASKS, RESULTS: 3 * IMAGES},
    "tridentnet": {
        **TWO_STAGES,
        NMS: IMAGES * (BRANCHES + 1),
        ("box_head.select_detections", "nonzero"): IMAGES * BRANCHES,
        RESULTS: 3 * IMAGES,
    },
    "retinanet": {**DENSE, COUNTS: IMAGES, RESULTS: 3 * IMAGES},
    "fcos": {**DENSE, COUNTS: IMAGES, RESULTS: 3 * IMAGES},
    "atss": {**DENSE, COUNTS: IMAGES, RESULTS: 3 * IMAGES},
    "centermask": {**DENSE, **MASKS, COUNTS: IMAGES + 1, RESULTS: 4 * IMAGES},
    "sparse_rcnn": {PAIRS: IMAGES, COUNTS: IMAGES + 2, RESULTS: 3 * IMAGES},
}


def found_by(model, world: World, *, precision: str = "fp32"):
    batch = small_batch()
    batches = [batch.pin_memory() if world is GPU else batch]
    return predict(model, batches, category_ids=(1, 2, 3), world=world, precision=precision, progress=False)


def assert_same(found, wanted, *, pixels: float = 0.005, share: float = 1.0) -> None:
    """As many detections, of which that share have their like, whatever the order of equal scores."""
    assert len(found) == len(wanted) > 0
    alike = sum(any(_alike(one, other, pixels) for other in wanted) for one in found)
    assert alike >= share * len(found)
    assert all(one.keys() == other.keys() for one, other in zip(found, wanted, strict=True))


def _alike(one, other, pixels: float) -> bool:
    return (
        (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        and one["bbox"] == pytest.approx(other["bbox"], abs=pixels)
        and one["score"] == pytest.approx(other["score"], abs=pixels / 5)
    )


@pytest.mark.parametrize(
    ("detector", "neck"),
    [
        ("faster_rcnn", "pafpn"),
        ("mask_rcnn", "fpn"),
        ("cascade_mask_rcnn", "fpn"),
        ("panet", "pafpn"),
        ("tridentnet", ""),
        ("libra_rcnn", "fpn"),
        ("retinanet", "pafpn"),
        ("fcos", "bifpn"),
        ("atss", "fpn"),
        ("centermask", "fpn"),
        ("sparse_rcnn", "fpn"),
    ],
)
def test_an_evaluation(cuda, detector, neck):
    model = small_detector(*fitting([f"model.detector={detector}", f"model.neck.name={neck}"], detector))
    moved = copy.deepcopy(model).to(CUDA)
    found = found_by(moved, GPU)
    assert dict(cuda.waits) == WAITS[detector]
    assert_same(found, found_by(model, HOST))


@pytest.mark.parametrize(("detector", "precision"), [("cascade_mask_rcnn", "fp16"), ("centermask", "bf16")])
def test_an_evaluation_in_half_precision(cuda, detector, precision):
    moved = small_detector(f"model.detector={detector}").to(CUDA)
    found = found_by(moved, GPU, precision=precision)
    assert dict(cuda.waits) == WAITS[detector]
    assert found and all(0 <= result["score"] <= 1 for result in found)


@pytest.mark.parametrize("detector", ["mask_rcnn", "centermask"])
def test_an_evaluation_of_many_views(cuda, detector):
    model = MultiScale(small_detector(f"model.detector={detector}"), TTA)
    moved = copy.deepcopy(model).to(CUDA)
    found = found_by(moved, GPU)
    waits = {
        "mask_rcnn": {
            ("rpn._suppress_together", "to host"): IMAGES * VIEWS,
            NMS: IMAGES * (VIEWS + 1),
            ("box_head.select_detections", "nonzero"): IMAGES * VIEWS,
            COUNTS: IMAGES * (2 * VIEWS + 1),
            RESULTS: 3 * IMAGES,
            **MASKS,
        },
        "centermask": {
            NMS: IMAGES * (VIEWS + 1),
            PAIRS: IMAGES * VIEWS * LEVELS,
            COUNTS: IMAGES * (2 * VIEWS + 1),
            RESULTS: 4 * IMAGES,
            **MASKS,
        },
    }[detector]
    assert dict(cuda.waits) == waits
    # The device resizes the views itself, up to rounding to whole grey levels, which moves some boxes.
    assert_same(found, found_by(model, HOST), pixels=0.1, share=0.9)


@pytest.mark.parametrize("detector", ["mask_rcnn", "centermask"])
def test_masks_pasted_on_the_device(cuda, detector):
    model = small_detector(f"model.detector={detector}").eval()
    moved = copy.deepcopy(model).to(CUDA)
    images = small_batch().images
    with torch.inference_mode():
        found, wanted = moved([image.pin_memory() for image in images]), model(images)
    for one, other in zip(found, wanted, strict=True):
        assert all(isinstance(value, PretendedTensor) for value in vars(one).values() if value is not None)
        assert one.masks.dtype == torch.bool and one.masks.shape == other.masks.shape
        assert (held(one.masks) != other.masks).float().mean() < 1e-3


def test_boxes_that_are_no_numbers(cuda):
    """What fp16 overflows to: the second stage of a cascade gets such boxes, and all of its rows must come back."""
    model = small_detector("model.detector=cascade_mask_rcnn")
    with torch.no_grad():
        model.head.box.stages[0].deltas.weight.fill_(float("nan"))
    assert found_by(model.to(CUDA), GPU) == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("neck", ["fpn", "pafpn", "bifpn"])
@pytest.mark.parametrize("detector", [name for name in WAITS if DETECTORS[name].has_pyramid])
def test_every_detector_on_every_neck(cuda, detector, neck, precision):
    model = small_detector(
        f"model.detector={detector}", f"model.neck.name={neck}", "model.neck.upsampler=srf"
    )
    moved = copy.deepcopy(model).to(CUDA)
    found = found_by(moved, GPU, precision=precision)
    assert dict(cuda.waits) == WAITS[detector]
    if precision == "fp32":
        # Which of equal scores is the last that is kept may differ.
        assert_same(found, found_by(model, HOST), share=0.9)
