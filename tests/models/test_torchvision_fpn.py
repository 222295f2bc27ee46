"""Upsamplers inside torchvision's own detectors."""

from collections import OrderedDict

import pytest
import torch
from torchvision.models.detection import (
    FasterRCNN,
    MaskRCNN,
    RetinaNet,
    backbone_utils,
    fasterrcnn_resnet50_fpn,
)
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from srfgan.models import build_upsampler, replace_upsampling
from srfgan.models.errors import InputError
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan.models.upsamplers.seam import upsample_to

WIDTHS = [4, 6, 8]


def maps(*sides):
    torch.manual_seed(1)
    levels = zip(WIDTHS, sides, strict=True)
    return OrderedDict((f"feat{i}", torch.randn(2, width, *side)) for i, (width, side) in enumerate(levels))


@pytest.mark.parametrize("extra", [None, LastLevelMaxPool(), LastLevelP6P7(6, 6)])
@pytest.mark.parametrize(
    "sides", [((8, 12), (4, 6), (2, 3)), ((9, 13), (5, 7), (3, 4)), ((17, 1), (9, 1), (5, 1))]
)
def test_nearest_neighbour_equals_the_original_exactly(sides, extra):
    torch.manual_seed(0)
    fpn = FeaturePyramidNetwork(WIDTHS, 6, extra).eval()
    replaced = replace_upsampling(fpn, build_upsampler("nn", 6))
    assert isinstance(replaced, FeaturePyramidNetwork) and not replaced.training
    with torch.no_grad():
        expected, actual = fpn(maps(*sides)), replaced(maps(*sides))
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_the_module_is_what_upsamples_every_level(name):
    fpn = FeaturePyramidNetwork(WIDTHS, 8)
    upsample = build_upsampler(name, 8)
    given = maps((9, 13), (5, 7), (3, 4))
    lateral = [block(x) for block, x in zip(fpn.inner_blocks, given.values(), strict=True)]
    replaced = replace_upsampling(fpn, upsample)
    middle = lateral[1] + upsample_to(upsample, lateral[2], lateral[1])
    finest = lateral[0] + upsample_to(upsample, middle, lateral[0])
    actual = replaced(given)
    for name, block, level in zip(given, fpn.layer_blocks, [finest, middle, lateral[2]], strict=True):
        torch.testing.assert_close(actual[name], block(level))


def test_names_stay_and_weights_go_both_ways():
    fpn = FeaturePyramidNetwork(WIDTHS, 8)
    replaced = replace_upsampling(fpn, build_upsampler("srf", 8))
    assert {n for n in replaced.state_dict() if not n.startswith("upsample.")} == set(fpn.state_dict())
    other = FeaturePyramidNetwork(WIDTHS, 8)
    missing = replaced.load_state_dict(other.state_dict(), strict=False)
    assert missing.unexpected_keys == [] and all(n.startswith("upsample.") for n in missing.missing_keys)
    assert torch.equal(fpn.inner_blocks[0][0].weight, other.inner_blocks[0][0].weight), "shared, not copied"


def test_what_hooks_a_pyramid_hooks_the_one_in_its_place():
    fpn = FeaturePyramidNetwork(WIDTHS, 8)
    seen = []
    handle = fpn.register_forward_hook(lambda module, given, maps: seen.append(list(maps)))
    replaced = replace_upsampling(fpn, build_upsampler("nn", 8))
    given = maps((8, 12), (4, 6), (2, 3))
    replaced(given)
    assert seen == [list(given)]
    handle.remove()
    replaced(given)
    assert len(seen) == 1 and "upsample" not in dict(fpn.named_children())


def detector(kind):
    backbone = backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    backbone.fpn = replace_upsampling(backbone.fpn, build_upsampler("srf", 256))
    return kind(backbone, num_classes=3, min_size=64, max_size=96)


@pytest.mark.parametrize("kind", [FasterRCNN, pytest.param(MaskRCNN, marks=pytest.mark.slow), RetinaNet])
def test_torchvision_detectors_train_the_generator(kind):
    torch.manual_seed(0)
    model = detector(kind).train()
    masks = torch.zeros(1, 70, 90, dtype=torch.uint8)
    masks[:, 5:50, 5:60] = 1
    target = {"boxes": torch.tensor([[5.0, 5.0, 60.0, 50.0]]), "labels": torch.tensor([1]), "masks": masks}
    losses = model([torch.rand(3, 70, 90)], [target])
    sum(losses.values()).backward()
    gradients = [p.grad for p in model.backbone.fpn.upsample.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    with torch.no_grad():
        assert set(model.eval()([torch.rand(3, 65, 71)])[0]) >= {"boxes", "scores", "labels"}


def test_the_stock_detector_detects_the_same_with_nearest_neighbour():
    torch.manual_seed(0)
    options = {"weights": None, "weights_backbone": None, "min_size": 97, "box_score_thresh": 0.0}
    model = fasterrcnn_resnet50_fpn(**options).eval()
    image = torch.rand(3, 97, 131)
    with torch.no_grad():
        before = model([image])[0]
        model.backbone.fpn = replace_upsampling(model.backbone.fpn, build_upsampler("nn", 256))
        after = model([image])[0]
    assert len(before["boxes"]) > 0
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_levels_that_do_not_halve_are_refused():
    fpn = replace_upsampling(FeaturePyramidNetwork(WIDTHS, 8), build_upsampler("nn", 8))
    with pytest.raises(
        InputError, match=r"levels of \(3, 4\) and \(9, 13\) pixels are more than a factor of two"
    ):
        fpn(maps((18, 26), (9, 13), (3, 4)))
