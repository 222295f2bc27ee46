"""What `benchmarks/swapped.py --halves` scores: a detector's heads on maps of half-size images, made large."""

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from srfgan.models import build_detector
from srfgan_cli.presets import load_preset

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "swapped.py"


class Knowing(nn.Module):
    """An upsampling that gives the whole images' maps, as it is asked for them."""

    def __init__(self, maps):
        super().__init__()
        self.maps, self.asked = iter(maps), []

    def forward(self, x):
        self.asked.append(tuple(x.shape[-2:]))
        return F.pad(next(self.maps), (0, 3, 0, 3))  # more than there is of them, to be cut


@pytest.fixture(scope="module")
def from_halves():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        return runpy.run_path(str(SCRIPT))["FromHalves"]


@torch.inference_mode()
def test_whoever_makes_the_whole_images_maps_finds_what_is_found_in_these(from_halves):
    torch.manual_seed(0)
    detector = build_detector(
        load_preset("mask_rcnn_r18_fpn_nn", ["model.inference.score_threshold=0.0"]).model
    ).eval()
    images = [torch.rand(3, 96, 129) * 255, torch.rand(3, 64, 96) * 255]
    pyramid = detector.pyramid(detector.preprocess(images)[0])
    knowing = Knowing([pyramid[level] for level in detector.neck.output])
    found = from_halves(detector, knowing).detect(images)
    assert all(knowing.asked) and len(knowing.asked) == len(detector.neck.output)
    for one, other in zip(found, detector.detect(images), strict=True):
        assert (
            len(one.scores) and torch.equal(one.boxes, other.boxes) and torch.equal(one.scores, other.scores)
        )
