"""What a caller may get wrong: one sentence, an `InputError`, that says what is wanted and what was given."""

import warnings
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from detector_configs import model_config
from torch import nn
from torch._subclasses import FakeTensorMode
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FeaturePyramidNetwork

from srfgan.models import (
    MaskPatch,
    Polygons,
    Target,
    build_detector,
    build_discriminator,
    build_generator,
    build_upsampler,
    replace_upsampling,
)
from srfgan.models.config import (
    BackboneConfig,
    BoxHeadConfig,
    NeckConfig,
    RPNConfig,
)
from srfgan.models.errors import InputError
from srfgan.models.inputs import check_images, check_targets
from srfgan.models.weights import load_weights
from srfgan_cli.presets import load_preset

CONFIG = model_config(
    detector="mask_rcnn",
    num_classes=3,
    backbone=BackboneConfig(name="r10", norm="bn", freeze_at=0),
    neck=NeckConfig(channels=16, upsampler="nn"),
    rpn=RPNConfig(pre_nms_topk_test=20, post_nms_topk_train=20, post_nms_topk_test=10),
    box_head=BoxHeadConfig(fc_dim=16),
)
IMAGE = torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FLOATS = IMAGE.float()
BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0]])
TRIANGLE = Polygons((np.array([[4.0, 6.0], [40.0, 6.0], [40.0, 50.0]]),))
BITMAP = MaskPatch(np.ones((64, 80), np.uint8), np.array([0.0, 0.0, 80.0, 64.0]))
GOOD = Target(BOXES, torch.tensor([0, 2]), [TRIANGLE, BITMAP])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_detector(CONFIG)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGE, "one tensor of shape (3, 64, 80); give a list, as model([image])"),
        (IMAGE[0], "one tensor of shape (64, 80); give a list of (3, H, W) tensors"),
        (IMAGE.permute(1, 2, 0)[None], "images[0] has shape (64, 80, 3), wanted is (3, H, W)"),
        (None, "images is None; give a list"),
        ("a.jpg", "images is a str; give a list"),
        (PIL.Image.new("RGB", (8, 9)), "images is a PIL Image; give a list"),
        (IMAGE.numpy(), "images is a numpy array (3, 64, 80) of uint8; give a list"),
        ((image for image in [IMAGE]), "images is a generator; give a list"),
        ([IMAGE, None], "images[1] is None, not a tensor"),
        ([IMAGE.numpy()], "not a tensor; torch.from_numpy(image) makes it one"),
        ([IMAGE.permute(1, 2, 0).numpy()], "torch.from_numpy(image).permute(2, 0, 1) makes it one"),
        ([PIL.Image.new("RGB", (8, 9))], "pil_to_tensor"),
        ([IMAGE.permute(1, 2, 0)], "image.permute(2, 0, 1)"),
        ([torch.zeros(4, 8, 9)], "shape (4, 8, 9), wanted is (3, H, W): image[:3] drops the fourth"),
        ([IMAGE[:1]], "shape (1, 64, 80), wanted is (3, H, W): image.reshape(1, H, W).expand(3, H, W)"),
        ([IMAGE[0]], "shape (64, 80), wanted is (3, H, W): image.reshape"),
        ([IMAGE[None]], "shape (1, 3, 64, 80), wanted is (3, H, W)"),
        ([IMAGE[:, :0]], "shape (3, 0, 80), which has no pixels"),
        ([IMAGE > 3], "images[0] is of torch.bool"),
        ([IMAGE.to_sparse()], "torch.sparse_coo"),
        ([IMAGE, FLOATS * torch.nan], "images[1] holds NaN or infinite values"),
        ([FLOATS / 0], "images[0] holds NaN or infinite values"),
        ([FLOATS * 257], "images[0] holds values from 0 to 65535; wanted are pixels in 0..255"),
        ([IMAGE.to(torch.uint16) * 257], "images[0] holds values from 0 to 65535"),
        ([-IMAGE.long()], "images[0] holds values from -255 to 0"),
    ],
)
def test_images(model, images, message):
    with pytest.raises(InputError) as error:
        model.eval()(images)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_every_number_type_is_taken_and_detects_the_same(model):
    model.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        (expected,) = model([IMAGE])
        for dtype in (torch.float16, torch.float32, torch.float64, torch.int64, torch.uint16):
            assert torch.equal(model([IMAGE.to(dtype)])[0].boxes, expected.boxes)
        for several in (torch.stack([IMAGE, IMAGE]), (IMAGE, IMAGE)):
            torch.testing.assert_close(model(several)[1].scores, expected.scores)
        assert model([]) == model(IMAGE.new_zeros(0, 3, 8, 8)) == []


@pytest.mark.parametrize("image", [FLOATS / 255, (FLOATS - 120) / 60])
def test_floats_that_are_scaled_already_get_a_warning(model, image):
    with torch.no_grad(), pytest.warns(UserWarning, match="a detector takes 0..255 and normalises itself"):
        model.eval()([image])


def test_a_gradient_reaches_the_image(model):
    image = FLOATS.clone().requires_grad_()
    sum(model.train()([image], [GOOD]).values()).backward()
    assert image.grad.abs().sum() > 0


@pytest.mark.parametrize("convert", [nn.Module.half, nn.Module.double, nn.Module.bfloat16])
def test_converted_weights(convert):
    model = convert(build_detector(CONFIG))
    for call in (lambda: model.eval()([IMAGE]), lambda: model.train()([IMAGE], [GOOD])):
        with pytest.raises(
            InputError, match=r"call model.float\(\), and detect or train under torch.autocast"
        ):
            call()


def boxes(values) -> Target:
    return replace(GOOD, boxes=values)


def labels(values) -> Target:
    return replace(GOOD, labels=values)


def masks(values) -> Target:
    return replace(GOOD, masks=values)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "needs targets; call model.eval() to detect"),
        (GOOD, "targets is a Target; give a list with one srfgan.models.Target for each image"),
        ({"boxes": BOXES}, "targets is a dict; give a list"),
        ([GOOD], "there are 2 images and 1 targets"),
        ([GOOD] * 3, "there are 2 images and 3 targets"),
        (
            [GOOD, {"boxes": BOXES}],
            "targets[1] is a dict; give srfgan.models.Target(boxes, labels, masks), labels counted from 0",
        ),
        ([GOOD, None], "targets[1] is None; give srfgan.models.Target"),
        ([GOOD, boxes(BOXES[:, :3])], "targets[1].boxes has shape (2, 3), wanted is (R, 4)"),
        ([GOOD, boxes(torch.zeros(0))], "targets[1].boxes has shape (0,), wanted is (R, 4)"),
        ([GOOD, boxes(BOXES.numpy())], "boxes is a numpy array (2, 4) of float32, wanted is a tensor (R, 4)"),
        ([GOOD, boxes(BOXES.double())], "boxes is of torch.float64, wanted is torch.float32"),
        ([GOOD, boxes(BOXES.half())], "boxes is of torch.float16, wanted is torch.float32"),
        ([GOOD, boxes(BOXES[:, [2, 1, 0, 3]])], "boxes[0] is [40.0, 6.0, 4.0, 50.0], wanted is x0 y0 x1 y1"),
        ([GOOD, boxes(BOXES * torch.tensor([1, 1, 1, 0.8]))], "boxes[1] is [20.0, 10.0, 60.0, 48.0]"),
        ([GOOD, boxes(BOXES * 10)], "which leaves its image of 40 x 50"),
        ([GOOD, boxes(BOXES - 9)], "which leaves its image"),
        ([boxes(BOXES * torch.nan), GOOD], "targets[0].boxes[0] is [nan, nan, nan, nan], wanted are finite"),
        (
            [GOOD, labels(torch.tensor([0, 3]))],
            "labels holds 3, wanted are 0 to 2: the detector has 3 classes",
        ),
        ([GOOD, labels(torch.tensor([-1, 0]))], "labels holds -1, wanted are 0 to 2"),
        (
            [GOOD, labels(torch.tensor([0, 1], dtype=torch.int32))],
            "labels is of torch.int32, wanted is torch.int64",
        ),
        ([GOOD, labels(torch.tensor([0.0, 1.0]))], "labels is of torch.float32"),
        ([GOOD, labels(torch.tensor([0]))], "labels has shape (1,), wanted is (2,): one for each box"),
        ([GOOD, labels([0, 1])], "labels is a list, wanted is a tensor (R,) of torch.int64"),
        ([GOOD, masks(None)], "masks is None; mask_rcnn learns masks: give a list"),
        ([GOOD, masks([TRIANGLE])], "masks has 1 masks and there are 2 boxes"),
        ([GOOD, masks(torch.zeros(2, 64, 80))], "masks is a Tensor (2, 64, 80) of torch.float32"),
        ([GOOD, masks([BITMAP.pixels] * 2)], "masks[0] is a numpy array (64, 80) of uint8"),
        ([GOOD, masks([TRIANGLE, Polygons(())])], "masks[1] has no polygon"),
        (
            [GOOD, masks([TRIANGLE, Polygons(([1, 2, 3, 4, 5, 6],))])],
            "masks[1].parts: wanted are arrays (V, 2)",
        ),
        ([GOOD, masks([TRIANGLE, Polygons((np.full((3, 2), np.nan),))])], "masks[1].parts: wanted"),
        (
            [GOOD, masks([replace(BITMAP, span=np.zeros(4)), TRIANGLE])],
            "masks[0].span is array([0., 0., 0., 0.])",
        ),
        (
            [GOOD, masks([replace(BITMAP, pixels=BITMAP.pixels > 0), TRIANGLE])],
            "masks[0].pixels is a numpy array",
        ),
    ],
)
def test_targets(model, targets, message):
    images = [IMAGE, IMAGE[:, :40, :50] if "leaves" in message or "48.0" in message else IMAGE]
    with pytest.raises(InputError) as error:
        model.train()(images, targets)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_targets_without_objects_and_boxes_off_by_rounding_are_fine(model):
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    edge = Target(torch.tensor([[-0.4, 0.0, 80.4, 64.0]]), torch.tensor([1]), [BITMAP])
    assert all(loss.isfinite() for loss in model.train()([IMAGE, IMAGE], (nothing, edge)).values())
    with pytest.raises(InputError, match="no image to train on"):
        model([], [])


def test_values_of_another_device_are_not_looked_at():
    """Neither of a tensor on a device nor of a stand-in: the first would wait, the second has none."""
    there = Target(
        torch.empty(2, 4, device="meta"), torch.empty(2, dtype=torch.int64, device="meta"), GOOD.masks
    )
    images = [torch.empty(3, 64, 80, device="meta")]
    check_images(images)
    check_targets([there], images, CONFIG)
    with FakeTensorMode():
        images = [torch.empty(3, 64, 80)]
        check_images(images)
        check_targets(
            [Target(torch.empty(2, 4), torch.empty(2, dtype=torch.int64), GOOD.masks)], images, CONFIG
        )
    with pytest.raises(InputError, match=r"labels has shape \(2,\), wanted is \(3,\)"):
        check_targets([replace(there, boxes=torch.empty(3, 4, device="meta"))], images, CONFIG)


class Quadruple(nn.Module):
    def forward(self, x):
        return x.repeat_interleave(4, 2).repeat_interleave(4, 3)


FPN = FeaturePyramidNetwork([4, 6], 8)
INSIDE = BackboneWithFPN(nn.Sequential(nn.Conv2d(3, 4, 1)), {"0": "0"}, [4], 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build_detector("mask_rcnn_r50_fpn"),
            "takes a ModelConfig, as load_preset(name).model has it, and got",
        ),
        (
            lambda: build_detector(load_preset("mask_rcnn_r18_fpn")),
            "load_preset(name).model has it, and got a Config",
        ),
        (lambda: build_generator("nn"), "no generator named 'nn': choose 'srf' or 'afi'"),
        (lambda: build_generator("srf", 0), "channels must be a whole number from 1, got 0"),
        (lambda: build_generator("srf", "256"), "channels must be a whole number from 1, got '256'"),
        (lambda: build_upsampler("nearest", 8), "no upsampler named 'nearest': choose 'nn', 'bilinear'"),
        (lambda: build_upsampler("dysample", 6), "channels must be a multiple of 4, got 6"),
        (lambda: build_upsampler("lda_aqu", 12), "channels must be a multiple of 8, got 12"),
        (lambda: build_upsampler("freqfusion", 6), "channels must be a multiple of 4, got 6"),
        (lambda: build_discriminator({}), "build_discriminator takes a DiscriminatorConfig"),
        (
            lambda: replace_upsampling(INSIDE.body, build_upsampler("nn", 8)),
            "is known to upsample without a run of it",
        ),
        (lambda: replace_upsampling(FPN, 3), "upsample is an int; give a name"),
        (
            lambda: replace_upsampling(FPN, build_upsampler("srf", 16)),
            "must map (1, 8, 4, 6) to (1, 8, 8, 12)",
        ),
        (lambda: replace_upsampling(FPN, Quadruple()), "Quadruple gives: (1, 8, 16, 24)"),
        (lambda: load_weights("model.pth", FPN), "takes a module and a file, in this order; module is a str"),
        (lambda: load_weights(FPN, FPN.state_dict()), "module.load_state_dict takes tensors"),
        (lambda: load_weights(FPN, None), "a weight file is named by its path, not by None"),
        (
            lambda: load_weights(FPN, "model.pth", parts="backbone"),
            "parts is 'backbone'; give a list of names",
        ),
        (lambda: load_preset(None), "a preset is a name or the path of a YAML file, not None"),
        (lambda: load_preset("small", "a=b"), "overrides is a str; give a list"),
        (lambda: load_preset("mask_rcnn_r18_fpn", [3]), "an override is a text"),
        (lambda: load_preset("mask_rcnn_r18_fpn", overlay=3), "not an int"),
    ],
)
def test_builders_and_loaders(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value)


def test_trying_an_upsampler_leaves_it_as_it_was():
    upsample = nn.Sequential(nn.BatchNorm2d(8), build_upsampler("nn", 8)).train()
    before = {name: value.clone() for name, value in upsample.state_dict().items()}
    replace_upsampling(FPN, upsample)
    assert all(torch.equal(value, before[name]) for name, value in upsample.state_dict().items())
    assert upsample[0].training
