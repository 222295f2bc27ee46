"""PANet's own rules: every box from all levels, and a mask of the whole box beside each class's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config
from pydantic import ValidationError

from srfgan.models import Target, build_detector
from srfgan.models.config import BoxHeadConfig, MaskHeadConfig
from srfgan.models.heads.adaptive_pooling import AdaptiveBoxHead
from srfgan.models.heads.panet_mask_head import PANetMaskHead
from srfgan.models.instance_masks import Polygons
from srfgan.models.ops.pooling import maps_for_pooling, pool_boxes, pool_boxes_from_all

BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0]])
SQUARE = np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 50.0], [10.0, 50.0]])


def tiny(neck="pafpn", upsampler="nn", wiring="paper", norm="none", convs=0):
    return model_config(
        detector="panet",
        num_classes=3,
        backbone={"name": "r10", "norm": "bn", "freeze_at": 0},
        neck={
            "name": neck,
            "channels": 16,
            "upsampler": upsampler,
            "pafpn": {"wiring": wiring},
            "bifpn": {"repeats": 1},
        },
        box_head={"fc_dim": 16, "num_convs": convs, "num_fcs": 1, "norm": norm, "conv_channels": 8},
        mask_head={"channels": 8, "num_convs": 2, "norm": norm},
    )


def pyramid(channels=4):
    generator = torch.Generator().manual_seed(1)
    sides = {"p2": 24, "p3": 12, "p4": 6, "p5": 3}
    return {name: torch.randn(1, channels, side, side, generator=generator) for name, side in sides.items()}


def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, height, width, generator=generator) * 255 for height, width in ((65, 71), (90, 64))]


@pytest.mark.parametrize("counts", [(2, 1), (0, 0)])
@pytest.mark.parametrize(
    ("neck", "upsampler", "convs", "norm"),
    [("pafpn", "srf", 2, "bn"), ("fpn", "nn", 0, "none"), ("bifpn", "carafe", 1, "none")],
)
def test_every_parameter_gets_a_gradient_whatever_the_targets(neck, upsampler, convs, norm, counts):
    torch.manual_seed(0)
    model = build_detector(tiny(neck, upsampler, convs=convs, norm=norm)).train()
    targets = [Target(BOXES[:n], torch.tensor([0, 2])[:n], [Polygons((SQUARE,))] * n) for n in counts]
    sum(model(images(), targets).values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_boxes_are_pooled_from_every_level():
    maps = pyramid()
    found = pool_boxes_from_all(maps, [BOXES], 7)
    assert found.shape == (4, 2, 4, 7, 7)
    for number, part in enumerate(found, start=2):
        torch.testing.assert_close(part, pool_boxes(maps, [BOXES], 7, levels=torch.full((2,), number)))


@pytest.mark.parametrize("convs", [0, 2])
def test_the_box_head_fuses_after_its_first_layer(convs):
    """Written out: each level's own layer, the maximum, and one head after it."""
    torch.manual_seed(0)
    config = BoxHeadConfig(num_convs=convs, num_fcs=2 - convs // 2, conv_channels=8, fc_dim=8)
    head = AdaptiveBoxHead(4, 3, config, 4)
    firsts = [layer.weight for layer in head.first.layers]
    assert not any(torch.equal(firsts[0], other) for other in firsts[1:])
    pooled = pool_boxes_from_all(pyramid(), [BOXES], 7)
    state = head.state_dict()
    if convs:
        each = [
            F.conv2d(part, state[f"first.layers.{i}.weight"], state[f"first.layers.{i}.bias"], padding=1)
            for i, part in enumerate(pooled)
        ]
        x = torch.stack(each).relu().amax(0)
        x = F.conv2d(x, state["convs.0.weight"], state["convs.0.bias"], padding=1).relu()
    else:
        each = [
            F.linear(part.flatten(1), state[f"first.layers.{i}.weight"], state[f"first.layers.{i}.bias"])
            for i, part in enumerate(pooled)
        ]
        x = torch.stack(each).relu().amax(0)
    x = F.linear(x.flatten(1), state["fcs.0.weight"], state["fcs.0.bias"]).relu()
    logits, deltas = head(pyramid(), [BOXES])
    torch.testing.assert_close(logits, F.linear(x, state["classes.weight"], state["classes.bias"]))
    moves = F.linear(x, state["deltas.weight"], state["deltas.bias"])
    torch.testing.assert_close(deltas.flatten(1), moves)


@pytest.mark.parametrize("convs", [1, 4])
def test_the_mask_is_a_classs_and_that_of_the_whole_box(convs):
    """Written out: the branch leaves before the last convolution, and its layer's mask is added to every class."""
    torch.manual_seed(0)
    head = PANetMaskHead(4, 3, MaskHeadConfig(num_convs=convs, channels=8, resolution=6), 4)
    state = head.state_dict()
    maps, labels = pyramid(), torch.tensor([2, 0])

    def conv(x, name):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1).relu()

    pooled = pool_boxes_from_all(maps, [BOXES], 6)
    x = torch.stack([conv(part, f"first.layers.{i}") for i, part in enumerate(pooled)]).amax(0)
    for place in range(convs - 2):
        x = conv(x, f"convs.{place}")
    own = conv(x, f"convs.{convs - 2}") if convs > 1 else x
    own = F.conv_transpose2d(own, state["up.weight"], state["up.bias"], stride=2).relu()
    own = F.conv2d(own, state["logits.weight"], state["logits.bias"])[torch.arange(2), labels]
    whole = conv(conv(x, "foreground.convs.0"), "foreground.convs.1")
    assert whole.shape[1] == 4
    whole = F.linear(whole.flatten(1), state["foreground.fc.weight"], state["foreground.fc.bias"]).relu()
    found = head(maps_for_pooling(maps, list(maps)), [BOXES], labels)
    torch.testing.assert_close(found, own + whole.view(2, 12, 12), rtol=1e-5, atol=1e-6)


def test_a_mask_head_without_convolutions_is_refused():
    with pytest.raises(ValidationError, match=r"mask_head\.num_convs must be 1 or more, got 0"):
        model_config(detector="panet", mask_head={"num_convs": 0})
