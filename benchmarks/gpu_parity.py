"""The block of `gpu.py` that compares with the references: the test suite's parity cases, on a GPU."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from gpu_cases import Item, Machine

from srfgan.models import build_detector
from srfgan.models.detector import Detector
from srfgan.models.structures import Detections
from srfgan.models.weights import load_weights
from srfgan_cli.machine.precision import float32_products

PARITY = Path(__file__).parents[1] / "tests" / "parity"
sys.path.insert(0, str(PARITY))

import parity_cases  # noqa: E402
from parity_cases import ParityCase, write_detectron2_pkl  # noqa: E402
from parity_configs import config_of, kind_of_case  # noqa: E402

KINDS = ("two_stage", "one_stage", "sparse_rcnn", "centermask")
LARGE = ("afi_cascade_mask_rcnn_swin_bifpn", "afi_cascade_mask_rcnn_s101_fpn")
"""Left out unless they are named: their weights take longest to fill, and smaller ones of their kind are there."""


def parity(machine: Machine) -> Iterator[Item]:
    """Each detector's case in true float32: its largest errors, or what is wrong with it."""
    names = sorted(path.parent.name for path in (PARITY / "data").glob("*/spec.json"))
    chosen = [name for name in names if name not in LARGE][: None if machine.cuda else 4]
    for name in machine.cases or chosen:
        case = ParityCase(PARITY / "data" / name)
        if kind_of_case(case.spec, set(case.golden)) in KINDS:
            with float32_products("fp32"):
                errors = _errors(case, machine)
            yield name, errors


def _errors(case: ParityCase, machine: Machine) -> dict[str, object]:
    model = build_detector(config_of(case.spec)).eval()
    with tempfile.TemporaryDirectory() as folder:
        load_weights(model, write_detectron2_pkl(case.weights(), Path(folder) / "weights.pkl"))
    model.to(machine.device)
    parity_cases.measured.clear()
    wrong = [
        str(error) for check in (_features, _detections, _training) for error in _tried(check, case, model)
    ]
    errors: dict[str, object] = {}
    for _, what, _, error in parity_cases.measured:
        errors[what] = max(float(errors.get(what, 0.0)), error)  # type: ignore[arg-type]
    return errors | ({"wrong": wrong} if wrong else {})


def _tried(check, case: ParityCase, model: Detector) -> list[AssertionError]:
    try:
        check(case, model)
    except AssertionError as error:
        return [error]
    return []


def _features(case: ParityCase, model: Detector) -> None:
    with torch.no_grad():
        pyramid = model.pyramid(model.preprocess(case.rgb_images())[0])
    for level, maps in pyramid.items():
        if f"neck_{level}" in case.golden:
            case.assert_close(f"neck_{level}", maps.cpu())


def _detections(case: ParityCase, model: Detector) -> None:
    images = case.rgb_images()
    with torch.no_grad():
        detections = model.detect(images)
    for index, found in enumerate(detections):
        boxes, scores, labels = (part.cpu() for part in (found.boxes, found.scores, found.labels))
        case.assert_detections(index, len(images), Detections(boxes, scores, labels))


def _training(case: ParityCase, model: Detector) -> None:
    images = case.rgb_images()
    case.train(model)
    shuffle = torch.randperm
    torch.randperm = lambda n, **options: torch.arange(n, **options)
    try:
        losses = model(images, case.targets(len(images), masks=case.has("gt_polygons")))
    finally:
        torch.randperm = shuffle
    case.assert_losses(losses)
    torch.stack(list(losses.values())).sum().backward()
    # The device adds in another order, and below max-pools rounding decides which of two equal pixels counts.
    case.assert_gradients(dict(model.named_parameters()), lambda name: 1e-2 if "backbone" in name else 1e-3)
