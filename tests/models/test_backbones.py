"""Every backbone: shapes, gradients, what freezing freezes, names in the files of others, and Swin's mask."""

from functools import cache

import numpy as np
import pytest
import timm
import torch
from detector_configs import model_config
from torchvision.ops import FrozenBatchNorm2d

from srfgan.models import Target, build_detector
from srfgan.models.backbones import resnest, resnet, swin, vovnet
from srfgan.models.backbones.swin import shift_mask
from srfgan.models.config import BackboneConfig, BoxHeadConfig, NeckConfig
from srfgan.models.factory import build_backbone
from srfgan.models.weights.names import all_to_ours, is_derived, to_detectron2, to_ours

TIMM_NAMES = resnet.TIMM_NAMES | resnest.TIMM_NAMES | vovnet.TIMM_NAMES | swin.TIMM_NAMES
CHANNELS = {
    "r50": [256, 512, 1024, 2048],
    "x101_64x4d": [256, 512, 1024, 2048],
    "s101": [256, 512, 1024, 2048],
    "v39": [256, 512, 768, 1024],
    "v99": [256, 512, 768, 1024],
    "swin_t": [96, 192, 384, 768],
    "swin_l": [192, 384, 768, 1536],
}
LEVELS = ["res2", "res3", "res4", "res5"]


@cache
def on_meta(name, norm="frozen_bn", freeze_at=2):
    with torch.device("meta"):
        return build_backbone(
            BackboneConfig(name=name, norm=norm, freeze_at=freeze_at, stride_in_1x1=name == "r50")
        )


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("x101_64x4d", 81.41),
        ("s101", 46.23),
        ("v39", 25.18),
        ("v99", 69.52),
        ("swin_t", 27.52),
        ("swin_l", 195.20),
    ],
)
def test_parameter_counts(name, millions):
    backbone = on_meta(name, "bn", 0)
    assert sum(p.numel() for p in backbone.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert backbone.channels == dict(zip(LEVELS, CHANNELS[name], strict=True))


@pytest.mark.parametrize("name", ["x101_64x4d", "s101", "v39", "swin_t"])
def test_shapes_and_gradients(name):
    torch.manual_seed(0)
    config = BackboneConfig(name=name, norm="bn", freeze_at=0, stride_in_1x1=False)
    backbone = build_backbone(config)
    features = backbone(torch.randn(2, 3, 64, 96))
    shapes = {level: (2, c, 16 // 2**i, 24 // 2**i) for i, (level, c) in enumerate(backbone.channels.items())}
    assert {level: tuple(x.shape) for level, x in features.items()} == shapes
    sum(x.square().mean() for x in features.values()).backward()
    lacking = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == []


def test_a_transformer_has_norms_for_the_levels_that_are_taken():
    with torch.device("meta"):
        backbone = build_backbone(BackboneConfig(name="swin_t"), ("res4", "res5"))
    assert list(backbone.norms) == list(backbone.channels) == ["res4", "res5"]


@pytest.mark.parametrize("counts", [(1, 0), (0, 0)])
def test_detector_on_a_transformer_trains_with_and_without_boxes(counts):
    torch.manual_seed(0)
    config = model_config(
        detector="faster_rcnn",
        num_classes=2,
        backbone=BackboneConfig(name="swin_t", freeze_at=0),
        neck=NeckConfig(channels=16, upsampler="nn"),
        box_head=BoxHeadConfig(fc_dim=16, samples_per_image=16),
    )
    model = build_detector(config).train()
    box, label = torch.tensor([[4.0, 6.0, 40.0, 50.0]]), torch.tensor([1])
    images = [torch.randint(0, 256, (3, 64, 70), dtype=torch.uint8) for _ in counts]
    losses = model(images, [Target(box[:count], label[:count], None) for count in counts])
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize(
    ("name", "stem", "first"),
    [("s101", "conv1", "layer1"), ("v39", "stem_", "stages_0"), ("swin_t", "patch_embed", "layers_0")],
)
def test_freezing(name, stem, first):
    """freeze_at 2 is the stem and res2: no parameter of theirs trains, and their batch norms are constants."""
    for freeze_at, parts in ((0, ()), (1, (stem,)), (2, (stem, first))):
        backbone = on_meta(name, "bn", freeze_at)
        for parameter_name, parameter in backbone.named_parameters():
            frozen = parameter_name.removeprefix("body.").startswith(parts or "none")
            assert parameter.requires_grad is not frozen, parameter_name
        for module_name, module in backbone.named_modules():
            if module_name.endswith(".norm") and module_name.startswith("body.") and name != "swin_t":
                frozen = module_name.removeprefix("body.").startswith(parts or "none")
                assert isinstance(module, FrozenBatchNorm2d) is frozen, module_name


def test_frozen_stages_of_a_transformer_drop_nothing():
    """With its stochastic depth, they had given others of each image every time."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="swin_t", freeze_at=5)).train()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        first, second = backbone(x), backbone(x)
    assert backbone.training and all(torch.equal(first[level], second[level]) for level in first)
    thawed = build_backbone(BackboneConfig(name="swin_t", freeze_at=2)).train().body
    assert not thawed["layers_0"].training and thawed["layers_1"].blocks[0].training


@pytest.mark.parametrize("name", CHANNELS)
def test_detectron2_names_map_in_both_directions(name):
    ours = [f"backbone.{key}" for key in on_meta(name).state_dict()]
    theirs = [to_detectron2(key) for key in ours]
    assert all(key is not None and key.startswith("backbone.bottom_up.") for key in theirs)
    assert len(set(theirs)) == len(theirs)
    assert [to_ours(key) for key in theirs] == ours


@pytest.mark.parametrize(
    ("name", "missing"),
    [("x101_64x4d", 0), ("s101", 0), ("v39", 2 * 2), ("swin_t", 4 * 2), ("swin_l", 4 * 2)],
)
def test_imagenet_files_of_timm_fill_the_backbone(name, missing):
    """Only what timm lacks is missing: eSE in two blocks of v39, Swin's norms of the outputs."""
    with torch.device("meta"):
        source = timm.create_model(TIMM_NAMES[name]).state_dict()
    given = {ours: source[key].shape for key, ours in all_to_ours(source).items() if not is_derived(key)}
    wanted = {f"backbone.{key}": value.shape for key, value in on_meta(name).state_dict().items()}
    assert {k: v for k, v in given.items() if k in wanted} == {k: v for k, v in wanted.items() if k in given}
    assert len(wanted.keys() - given.keys()) == missing
    assert {key.split(".")[0] for key in given.keys() - wanted.keys()} <= {"fc", "head", "norm"}
    wrapped = all_to_ours(f"module.{key}" for key in source)
    assert list(wrapped.values()) == list(all_to_ours(source).values()), (
        "as DistributedDataParallel saves them"
    )


@pytest.mark.parametrize(("rows", "columns", "window", "shift"), [(6, 9, 3, 1), (7, 14, 7, 3), (4, 4, 4, 2)])
def test_shift_mask(rows, columns, window, shift):
    """Two tokens of a window attend to each other if the shift kept their distance."""
    mask = shift_mask(rows // window, columns // window, window, shift, torch.device("cpu")).numpy()
    after = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    before = [np.roll(x, (-shift, -shift), (0, 1)) for x in after]
    index = 0
    for top in range(0, rows, window):
        for left in range(0, columns, window):
            torn = np.zeros((window**2, window**2), bool)
            for old, new in zip(before, after, strict=True):
                old, new = (x[top : top + window, left : left + window].ravel() for x in (old, new))
                torn |= old[:, None] - old != new[:, None] - new
            np.testing.assert_array_equal(mask[index], np.where(torn, -100.0, 0.0))
            index += 1
    assert index == len(mask)
