"""Grad-CAM of every detector: a map lies where the score depends on the pyramid, and says by how much."""

import pytest
import torch
from small_runs import small_detector
from torch import nn

from srfgan.models.config import DETECTORS
from srfgan.models.structures import Detections
from srfgan_cli.visualization.feature_maps import swaps_of
from srfgan_cli.visualization.gradcam import (
    Evidence,
    best_detection,
    contributions,
    evidence,
    same_object,
    views,
)
from srfgan_cli.visualization.gradcam_panel import Shown, gradcam_panel

SIDE = 256


@pytest.fixture(scope="module")
def image():
    return torch.randint(
        0, 256, (3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


class HalfBlind(nn.Module):
    """A head that sees one half of every level, and zeros in the other."""

    def __init__(self, head, side):
        super().__init__()
        self.head, self.side = head, side

    def detect(self, pyramid, sizes):
        return self.head.detect({level: x * self.seen(x) for level, x in pyramid.items()}, sizes)

    def seen(self, x):
        left = torch.arange(x.shape[-1]) < x.shape[-1] / 2
        return (left if self.side == "left" else ~left).to(x)


@pytest.mark.parametrize("name", [name for name in DETECTORS if name != "tridentnet"])  # it upsamples nothing
def test_the_map_lies_where_the_detector_looks(name, image):
    """Plain Grad-CAM's would not: the maps are as strong in the other half."""
    detector = small_detector(f"model.detector={name}")
    seen_by, head = {}, detector.head
    for side in ("left", "right"):
        detector.head = HalfBlind(head, side)
        (view,) = views(detector, image, {"nn": detector.upsample}).values()
        found = evidence(view, 0)
        assert found.map.shape == (SIDE, SIDE) and (found.map >= 0).all() and found.map.sum() > 0
        assert sum(found.levels.values()) == pytest.approx(1)
        # Between places, maps are interpolated: half a place of the coarsest level may hang over.
        coarsest = max(level for level, share in found.levels.items() if share > 0)
        over = 2 ** int(coarsest[1:]) // 2
        blind = slice(SIDE // 2 + over, SIDE) if side == "left" else slice(0, SIDE // 2 - over)
        assert not found.map[:, blind].any(), coarsest
        blind_maps = view.pyramid[coarsest] * (1 - detector.head.seen(view.pyramid[coarsest]))
        assert blind_maps.abs().sum() > 0
        seen_by[side] = found.map.sum(0)
    places = torch.arange(SIDE, dtype=torch.float32)
    centres = {side: float((columns * places).sum() / columns.sum()) for side, columns in seen_by.items()}
    assert centres["left"] < SIDE / 2 < centres["right"]


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_contributions_are_what_the_log_odds_gain(name, image):
    """To first order: places drawn by lot are made a little stronger, by finite differences."""
    detector = small_detector(f"model.detector={name}").eval()
    (view,) = views(detector, image, {"nn": detector.upsample}).values()
    index = len(view.found) // 2
    lots = torch.Generator().manual_seed(3)
    drawn = {
        level: (torch.rand(x.shape[-2:], generator=lots) < 0.5).float() for level, x in view.pyramid.items()
    }
    parts = contributions(view, index)
    gain = sum(float((part * drawn[level]).sum()) for level, part in parts.items())
    odds = []
    for step in (-1e-4, 1e-4):
        stronger = {level: x * (1 + step * drawn[level]) for level, x in view.pyramid.items()}
        with torch.no_grad():
            (found,) = detector.detect_from_pyramid(stronger, [(SIDE, SIDE)])
        odds.append(found.scores[same_object_in(found, view, index)].logit())
    assert abs(gain) > 0.01
    assert float(odds[1] - odds[0]) / 2e-4 == pytest.approx(gain, rel=0.03)
    shown = evidence(view, index)
    positive = {level: float(part.clamp(min=0).sum()) for level, part in parts.items()}
    assert shown.levels == pytest.approx({level: x / sum(positive.values()) for level, x in positive.items()})


def same_object_in(found, view, index):
    near = (found.boxes - view.found.boxes[index].detach()).abs().sum(1) + 1e6 * (
        found.labels != view.found.labels[index]
    )
    return int(near.argmin())


def test_the_detector_is_left_as_it_was(image):
    detector = small_detector().train()
    detector.backbone.eval()
    upsample, weights = detector.upsample, {k: v.clone() for k, v in detector.state_dict().items()}
    seen = views(detector, image, swaps_of(detector, ["nn", "sapa"]).modules)
    evidence(seen["sapa"], 0)
    assert list(seen) == ["nn", "sapa"]
    assert detector.upsample is upsample and detector.training and not detector.backbone.training
    assert all(torch.equal(weights[name], value) for name, value in detector.state_dict().items())
    assert all(parameter.grad is None for parameter in detector.parameters())


class Found:
    """A view's detections alone."""

    def __init__(self, boxes, scores, labels):
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        self.found = Detections(boxes, torch.tensor(scores), torch.tensor(labels, dtype=torch.int64))


def test_the_object_is_the_best_of_all_methods_and_the_same_for_each():
    first = Found([[0, 0, 10, 10], [50, 50, 60, 60]], [0.6, 0.5], [0, 1])
    second = Found(
        [[0, 0, 10, 11], [50, 50, 60, 60], [51, 50, 60, 60], [0, 0, 4, 4]], [0.4, 0.7, 0.8, 0.9], [0, 1, 1, 2]
    )
    seen = {"nn": first, "srf": second}
    assert best_detection(seen, None) == ("srf", 3)
    assert best_detection(seen, 0) == ("nn", 0)
    assert best_detection(seen, 1) == ("srf", 2)
    assert best_detection(seen, 3) is None
    assert best_detection({"nn": Found([], [], [])}, None) is None
    box = second.found.boxes[2]
    assert same_object(first, box, 1) == 1 and same_object(second, box, 1) == 2
    assert same_object(first, box, 0) is None
    assert same_object(first, second.found.boxes[3], 2) is None


def seen(map_, box=(0.0, 0.0, 20.0, 20.0), score=0.5):
    return Evidence(torch.tensor(box), score, map_, {"p2": 0.75, "p3": 0.25})


def test_the_share_in_the_box():
    assert seen(torch.ones(40, 40)).inside == pytest.approx(0.25)
    assert seen(torch.zeros(40, 40)).inside == 0


def test_the_panel_shows_all_maps_on_one_scale():
    """Equal maps look equal and have no difference; half as much is darker; what a method misses stays grey."""
    image = torch.full((3, 80, 80), 128, dtype=torch.uint8)
    strong, weak = torch.zeros(80, 80), torch.zeros(80, 80)
    strong[30:50, 30:50], weak[30:50, 30:50] = 2e-4, 1e-4
    box = (25.0, 25.0, 55.0, 55.0)
    maps = {
        "nn": seen(strong, box),
        "bilinear": seen(strong.clone(), box),
        "srf": seen(weak, box),
        "afi": None,
    }
    panel = gradcam_panel(image, maps, Shown("a $ cat", torch.tensor(box), None, "untrained: srf"))
    width = 3.4 * 130
    columns = [round(13 + (column + 0.5) * (width + 13)) for column in range(5)]
    across, down = [-30, 0, 30], [round(0.32 * 130 + width / 2) + step for step in (-40, -20, 0)]
    first, second, third, fourth = (
        [panel.getpixel((column + x, y)) for x in across for y in down] for column in columns[1:]
    )
    assert first == second
    brightness = [sum(map(sum, pixels)) for pixels in (first, third)]
    assert brightness[0] > brightness[1] * 1.2
    assert all(max(pixel) - min(pixel) < 8 for pixel in fourth), "grey"
    below = [panel.getpixel((columns[2] + x, panel.height - 13 - round(width / 2))) for x in across]
    assert all(min(pixel) > 240 for pixel in below), "white: bilinear equals nn"
    less = panel.getpixel((columns[3], panel.height - 13 - round(width / 2) - 10))
    assert less[2] > less[0] + 50, "blue: less than nn"
    alone = gradcam_panel(image, {"nn": maps["nn"]}, Shown("cat", torch.tensor(box), "p2"))
    assert alone.width < panel.width / 2 and alone.height < panel.height


def test_a_panel_without_any_evidence_is_drawn():
    image = torch.zeros(3, 20, 90, dtype=torch.uint8)
    nothing = {"nn": seen(torch.zeros(20, 90)), "srf": None}
    assert gradcam_panel(image, nothing, Shown("cat", torch.tensor([0.0, 0, 90, 20]), "p3", "x " * 100))
    assert gradcam_panel(image, dict(reversed(nothing.items())), Shown("cat", torch.zeros(4), "p3"))
