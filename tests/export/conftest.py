from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from detector_configs import fitting
from torch import nn

from srfgan.models import build_detector
from srfgan_cli.presets import load_preset
from srfgan_cli.training.checkpoint import save_checkpoint

OVERRIDES = [
    "model.num_classes=3",
    "model.neck.channels=16",
    "model.rpn.pre_nms_topk_test=200",
    "model.rpn.post_nms_topk_test=100",
    "model.box_head.fc_dim=64",
    "model.mask_head.channels=16",
    "model.inference.score_threshold=0.0",
]
CATEGORIES = [{"id": 3, "name": "cell"}, {"id": 5, "name": "größe"}, {"id": 90, "name": "rest"}]


def picture(height, width, seed):
    """(3, H, W) float32 RGB in 0..255: coarse random patches."""
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(coarse, (height, width), mode="bilinear")[0]


PICTURES = [
    picture(120, 150, 0),
    picture(65, 300, 1),
    picture(233, 97, 2),
    torch.zeros(3, 65, 65),
    torch.full((3, 140, 100), 255.0),
]


def decided(detector):
    """Make a random detector's outputs differ clearly: scores, boxes and masks far from ties."""
    torch.manual_seed(1)
    head = detector.head
    layers = [
        (head.rpn.objectness, 2.0),
        (head.rpn.deltas, 0.1),
    ]
    for box in getattr(head.box, "stages", [head.box]):
        layers += [(box.classes, 4.0), (box.deltas, 4.0)]
    if getattr(head, "mask", None) is not None:
        layers.append((head.mask.logits, 3.0))
    for layer, std in layers:
        nn.init.normal_(layer.weight, std=std / layer.weight[0].numel() ** 0.5)
    return detector


@pytest.fixture
def trained(tmp_path):
    """Make a checkpoint as training leaves it, and know what its detector finds.

    The threshold lies between the best scores of two pictures, so that at least one picture is empty.
    """

    def make(preset, *overrides):
        detector = load_preset(preset, overrides).model.detector
        config = load_preset(preset, [*fitting(OVERRIDES, detector), *overrides])
        torch.manual_seed(0)
        detector = decided(build_detector(config.model)).eval()
        with torch.no_grad():
            everything = [detector.detect([image])[0] for image in PICTURES]
        best = sorted(found.scores[0].item() for found in everything)
        threshold = (best[0] + best[1]) / 2
        detector.head.inference = detector.head.inference.model_copy(update={"score_threshold": threshold})
        with torch.no_grad():
            expected = [detector.detect([image])[0] for image in PICTURES]
        path = tmp_path / "model.pt"
        content = {"stage": "finetune", "model": config.model.model_dump(), "categories": CATEGORIES}
        save_checkpoint(path, content | {"modules": {"detector": detector.state_dict()}})
        options = [
            "--preset",
            preset,
            "--weights",
            path,
            "--set",
            f"model.inference.score_threshold={threshold}",
        ]
        return SimpleNamespace(path=path, options=options, expected=expected, detector=detector)

    return make


@pytest.fixture
def pictures():
    return PICTURES
