"""Invariants of every detector that can be built, at a size that takes milliseconds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detector_configs import model_config
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from srfgan.models import Target, build_detector
from srfgan.models.config import (
    BackboneConfig,
    BoxHeadConfig,
    InferenceConfig,
    MaskHeadConfig,
    ModelConfig,
    NeckConfig,
    PixelConfig,
    RPNConfig,
)
from srfgan.models.instance_masks import MaskPatch, Polygons
from srfgan.models.ops.conv_norm import ConvNorm


def tiny(detector="mask_rcnn", upsampler="nn", backbone=None, **changes) -> ModelConfig:
    return model_config(
        detector=detector,
        num_classes=3,
        backbone=backbone or BackboneConfig(name="r18", norm="bn", freeze_at=0),
        neck=NeckConfig(channels=16, upsampler=upsampler),
        rpn=RPNConfig(pre_nms_topk_test=100, post_nms_topk_train=50, post_nms_topk_test=30),
        box_head=BoxHeadConfig(fc_dim=16, samples_per_image=32),
        mask_head=MaskHeadConfig(channels=8, num_convs=1),
        **changes,
    )


def target(count: int) -> Target:
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0]])
    triangle = Polygons((np.array([[4.0, 6.0], [40.0, 6.0], [40.0, 50.0]]),))
    patch = MaskPatch(np.ones((50, 40), np.uint8), np.array([20.0, 10.0, 60.0, 60.0]))
    return Target(boxes[:count], torch.tensor([0, 2])[:count], [triangle, patch][:count])


def images():
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, 65, 71), dtype=torch.uint8, generator=generator),
        torch.rand(3, 90, 64, generator=generator) * 255,
    ]


@pytest.mark.parametrize(
    ("detector", "upsampler", "millions"),
    [
        ("faster_rcnn", "nn", 41.70),
        ("mask_rcnn", "nn", 44.34),
        ("faster_rcnn", "srf", 51.21),
        ("mask_rcnn", "srf", 53.85),
        ("mask_rcnn", "afi", 52.18),
        ("cascade_mask_rcnn", "nn", 71.98),
    ],
)
def test_parameter_counts_of_the_paper(detector, upsampler, millions):
    """Table 1: 41 M and 44 M with nearest-neighbour upsampling, 51 M and 54 M with G."""
    with torch.device("meta"):
        model = build_detector(model_config(detector=detector, neck=NeckConfig(upsampler=upsampler)))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("counts", [(2, 1), (0, 2), (0, 0)])
@pytest.mark.parametrize(
    ("detector", "upsampler"),
    [
        ("faster_rcnn", "bicubic"),
        ("mask_rcnn", "srf"),
        ("mask_rcnn", "afi"),
        ("cascade_rcnn", "nn"),
        ("cascade_mask_rcnn", "srf"),
    ],
)
def test_every_parameter_gets_a_gradient_whatever_the_targets(detector, upsampler, counts):
    torch.manual_seed(0)
    model = build_detector(tiny(detector, upsampler)).train()
    losses = model(images(), [target(count) for count in counts])
    stages = [f"_stage{index}" for index in range(3)] if "cascade" in detector else [""]
    names = {f"loss_{kind}{stage}" for kind in ("cls", "box_reg") for stage in stages}
    names |= {"loss_rpn_cls", "loss_rpn_loc"} | ({"loss_mask"} if "mask" in detector else set())
    assert set(losses) == names
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == []
    if counts == (0, 0):
        assert losses[f"loss_box_reg{stages[-1]}"] == 0 and losses["loss_rpn_loc"] == 0
        assert losses[f"loss_cls{stages[-1]}"] > 0
    else:
        assert min(losses.values()) > 0


@pytest.mark.parametrize("detector", ["mask_rcnn", "cascade_mask_rcnn"])
def test_no_proposal_at_all_still_reaches_every_parameter(detector, monkeypatch):
    model = build_detector(tiny(detector)).train()
    monkeypatch.setattr(model.head.rpn, "_select", lambda *args: [torch.zeros(0, 4)] * 2)
    sum(model(images(), [target(0), target(0)]).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
@pytest.mark.parametrize("freeze_at", [0, 2, 5])
def test_frozen_stages(norm, freeze_at):
    torch.manual_seed(0)
    model = build_detector(tiny(backbone=BackboneConfig(name="r18", norm=norm, freeze_at=freeze_at)))
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    sum(model.train()(images(), [target(2), target(1)]).values()).backward()
    optimizer.step()
    stages = ["conv1", "layer1", "layer2", "layer3", "layer4"]
    for name, value in model.backbone.state_dict().items():
        frozen = stages.index(name.split(".")[1]) < freeze_at
        if frozen or (norm == "frozen_bn" and ".norm." in name):
            assert torch.equal(value, before[name]), f"{name} must not change"
        elif name.endswith("conv1.weight" if norm == "frozen_bn" else ("conv2.norm.weight", "running_mean")):
            assert not torch.equal(value, before[name]), f"{name} must train"


def test_frozen_norm_is_folded_exactly():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
    for statistic in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(statistic, 0.5, 2)
    frozen = FrozenBatchNorm2d(8)
    frozen.load_state_dict(norm.state_dict())
    x = torch.randn(2, 3, 9, 9)
    expected = norm.eval()(conv(x))
    torch.testing.assert_close(ConvNorm(conv, frozen)(x), expected)
    torch.testing.assert_close(ConvNorm(conv, norm)(x), expected)


@pytest.mark.parametrize("stride_in_1x1", [True, False])
def test_stride_of_bottlenecks(stride_in_1x1):
    with torch.device("meta"):
        model = build_detector(model_config(backbone=BackboneConfig(stride_in_1x1=stride_in_1x1)))
    block = model.backbone.body["layer2"][0]
    assert block.conv1.stride == ((2, 2) if stride_in_1x1 else (1, 1))
    assert block.conv2.stride == ((1, 1) if stride_in_1x1 else (2, 2))


def test_preprocessing():
    """Normalised in the model's channel order, padded with zeros after that, to a multiple of 32."""
    pixel = PixelConfig(order="BGR", mean=[1.0, 2.0, 3.0], std=[2.0, 4.0, 8.0])
    model = build_detector(tiny(pixel=pixel))
    red = torch.zeros(3, 10, 40, dtype=torch.uint8)
    red[0] = 255
    batch, sizes = model.preprocess([red, torch.zeros(3, 33, 5)])
    assert batch.shape == (2, 3, 64, 64) and sizes == [(10, 40), (33, 5)]
    assert batch[0, :, 5, 5].tolist() == [(0 - 1) / 2, (0 - 2) / 4, (255 - 3) / 8]
    assert batch[0, :, 10:].abs().max() == 0 and batch[0, :, :, 40:].abs().max() == 0
    for other in (red.float(), red.permute(1, 2, 0).contiguous().permute(2, 0, 1)):
        same, _ = model.preprocess([other])
        assert torch.equal(same[0], batch[0, :, :32])
    swapped = build_detector(tiny(pixel=pixel.model_copy(update={"order": "RGB"})))
    assert torch.equal(swapped.preprocess([red.flip(0)])[0][0], batch[0, :, :32])


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn"])
def test_detections_are_well_formed(detector):
    torch.manual_seed(0)
    model = build_detector(tiny(detector, inference=InferenceConfig(score_threshold=0.0))).eval()
    with torch.no_grad():
        found = model(images())
        unpasted = model.detect(images())
    for detections, same, image in zip(found, unpasted, images(), strict=True):
        height, width = image.shape[-2:]
        count = len(detections)
        assert 0 < count <= 100
        assert detections.boxes.dtype == torch.float32 and detections.labels.dtype == torch.int64
        assert (detections.boxes >= 0).all() and (detections.boxes[:, 2] <= width).all()
        assert (detections.boxes[:, 3] <= height).all()
        assert (detections.scores.diff() <= 0).all() and set(detections.labels.tolist()) <= {0, 1, 2}
        assert same.masks is None and torch.equal(same.boxes, detections.boxes)
        if "mask" in detector:
            assert detections.masks.shape == (count, height, width) and detections.masks.dtype == torch.bool
            assert same.mask_probs.shape == (count, 28, 28)
        else:
            assert detections.masks is None and same.mask_probs is None


def test_nothing_found_is_a_result():
    model = build_detector(tiny(inference=InferenceConfig(score_threshold=1.0))).eval()
    with torch.no_grad():
        found = model([torch.zeros(3, 1, 1, dtype=torch.uint8)])[0]
    assert len(found) == 0 and found.masks.shape == (0, 1, 1)


def test_losses_stay_float32_under_autocast():
    torch.manual_seed(0)
    model = build_detector(tiny(upsampler="afi")).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images(), [target(2), target(1)])
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


def test_one_forward_computes_the_pyramid_once_for_losses_and_maps():
    """Stage 2's way: the losses of a given pyramid equal those of the images."""
    model = build_detector(tiny()).train()
    batch, sizes = model.preprocess(images())
    pyramid = model.pyramid(batch)
    assert {level: tuple(x.shape[1:]) for level, x in pyramid.items()} == {
        "p2": (16, 24, 24),
        "p3": (16, 12, 12),
        "p4": (16, 6, 6),
        "p5": (16, 3, 3),
        "p6": (16, 2, 2),
    }
    torch.manual_seed(0)
    losses = model.losses_from_pyramid(pyramid, sizes, [target(2), target(0)])
    torch.manual_seed(0)
    again = model(images(), [target(2), target(0)])
    for name, loss in losses.items():
        torch.testing.assert_close(loss, again[name])


def test_training_needs_targets():
    with pytest.raises(ValueError, match=r"needs targets; call model\.eval\(\) to detect"):
        build_detector(tiny()).train()(images())


def test_neck_uses_one_upsampler_for_all_levels():
    model = build_detector(tiny(upsampler="afi")).eval()
    seen = []
    model.neck.upsample.register_forward_hook(lambda module, args, out: seen.append(out.shape[-1]))
    features = model.backbone(torch.randn(1, 3, 64, 64))
    pyramid = model.neck(features)
    assert seen == [4, 8, 16]
    above = model.neck.lateral["p4"](features["res4"]) + model.neck.upsample(
        model.neck.lateral["p5"](features["res5"])
    )
    torch.testing.assert_close(pyramid["p4"], model.neck.output["p4"](above))
    assert torch.equal(pyramid["p6"], F.max_pool2d(pyramid["p5"], 1, 2))
