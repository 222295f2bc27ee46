"""Upsamplers in models of other packages, by stand-ins of the same structure."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from srfgan.models import build_upsampler, replace_upsampling, upsampled_maps
from srfgan.models.config import GeneratorConfig
from srfgan.models.errors import InputError


def conv(inputs, outputs, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.SiLU())


class Concat(nn.Module):
    def forward(self, maps):
        return torch.cat(maps, 1)


class YoloLike(nn.Module):
    """Ultralytics' way: layers in a row that know by their own attributes whose results they take."""

    def __init__(self, width=8):
        super().__init__()
        layers = [conv(3, 4, 2), conv(4, 8, 2), conv(8, 8, 2), nn.Upsample(None, 2, "nearest"), Concat()]
        layers += [conv(16, width), nn.Upsample(None, 2, "nearest"), Concat(), conv(4 + width, 4)]
        for layer, source in zip(layers, [-1, -1, -1, -1, [-1, 1], -1, -1, [-1, 0], -1], strict=True):
            layer.source = source
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        results = []
        for layer in self.layers:
            x = layer(x if layer.source == -1 else [x, results[layer.source[1]]])
            results.append(x)
        return x


class Stem(nn.Module):
    """Three maps for the necks below."""

    def __init__(self, neck):
        super().__init__()
        self.stem = nn.ModuleList([conv(3, 8, 2), conv(8, 8, 2), conv(8, 8, 2)])
        self.neck = neck

    def forward(self, x):
        maps = []
        for layer in self.stem:
            x = layer(x)
            maps.append(x)
        return self.neck(maps)


class MMDetectionLike(nn.Module):
    """Calls `interpolate` in its own forward, to the size of the finer map or by a factor."""

    def __init__(self, **upsample):
        super().__init__()
        self.laterals = nn.ModuleList([conv(8, 8) for _ in range(3)])
        self.upsample = upsample

    def forward(self, maps):
        maps = [layer(x) for layer, x in zip(self.laterals, maps, strict=True)]
        for i in (2, 1):
            size = {} if "scale_factor" in self.upsample else {"size": maps[i - 1].shape[2:]}
            maps[i - 1] = maps[i - 1] + F.interpolate(maps[i], **size, **self.upsample)
        return F.interpolate(maps[1], scale_factor=0.5), maps[2], maps[0]


class YoloxLike(nn.Module):
    """One layer upsamples maps of two widths."""

    def __init__(self):
        super().__init__()
        self.reduce = nn.ModuleList([conv(8, 6), conv(14, 4)])
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, maps):
        middle = torch.cat([self.up(self.reduce[0](maps[2])), maps[1]], 1)
        return torch.cat([self.up(self.reduce[1](middle)), maps[0]], 1)


class OneForAll(nn.Module):
    """One block takes in every level, the coarsest with nothing above it to be doubled."""

    def __init__(self):
        super().__init__()
        self.block = Merge()

    def forward(self, maps):
        merged = None
        for x in reversed(maps):
            merged = self.block(x, merged)
        return merged


class Merge(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(8, 8)

    def forward(self, x, above=None):
        return self.conv(x if above is None else x + F.interpolate(above, size=x.shape[2:]))


class Around(nn.Module):
    """Interpolates itself, around parts that do, and by four, which stays."""

    def __init__(self):
        super().__init__()
        self.inner = YoloLike()
        self.fpn = FeaturePyramidNetwork([4, 4], 8)
        self.four = nn.Upsample(scale_factor=4)

    def forward(self, x):
        fine = F.interpolate(self.inner(x), scale_factor=2.0)
        levels = self.fpn({"a": fine, "b": F.max_pool2d(fine, 2)})
        return self.four(F.interpolate(levels["a"], scale_factor=(2, 2)) + levels["b"].mean())


MODELS = {
    "ultralytics": (YoloLike, {"layers.3.upsamplers.8"}, {"layers.3.upsamplers.8", "layers.6.upsamplers.8"}),
    "ultralytics, two widths": (
        lambda: YoloLike(6),
        *[{"layers.3.upsamplers.8", "layers.6.upsamplers.6"}] * 2,
    ),
    "mmdetection": (
        lambda: Stem(MMDetectionLike(mode="nearest")),
        {"neck.upsamplers.8"},
        {"neck.upsamplers.8_0", "neck.upsamplers.8_1"},
    ),
    "transformers": (
        lambda: Stem(MMDetectionLike(scale_factor=2.0, mode="nearest")),
        {"neck.upsamplers.8"},
        {"neck.upsamplers.8_0", "neck.upsamplers.8_1"},
    ),
    "yolox": (lambda: Stem(YoloxLike()), *[{"neck.up.upsamplers.6", "neck.up.upsamplers.4"}] * 2),
    "one block for all levels": (
        lambda: Stem(OneForAll()),
        *[{"neck.block.upsamplers.8"}] * 2,
    ),
    "one in the other": (
        Around,
        {"fpn.upsample", "upsamplers.4"},
        {
            "fpn.upsample.0",
            *(f"inner.layers.{i}.upsamplers.8" for i in (3, 6)),
            "upsamplers.4",
            "upsamplers.8",
        },
    ),
}
each_model = pytest.mark.parametrize("kind", MODELS)


def made(kind):
    """A model in evaluation mode whose batch norms do something, and images of a size that its layers halve."""
    torch.manual_seed(0)
    model = MODELS[kind][0]()
    images = torch.randn(2, 3, 32, 48) if kind != "mmdetection" else torch.randn(2, 3, 34, 49)
    model(images)
    return model.eval(), images


def small(channels):
    return build_upsampler("srf", channels, GeneratorConfig(width=4, blocks=1))


def replaced(kind, upsample=small, **options):
    model, images = made(kind)
    return replace_upsampling(model, upsample, lambda: model(images), **options), images


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(flat(one), flat(other), strict=True))


def flat(result):
    return [result] if isinstance(result, torch.Tensor) else list(result)


class Tripled(nn.Module):
    def forward(self, x):
        return 3 * x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@each_model
def test_upsampler_takes_every_map_that_was_doubled_and_no_other(kind, monkeypatch):
    model, images = made(kind)
    original = F.interpolate

    def tripled(x, size=None, scale_factor=None, *rest, **options):
        three = scale_factor not in (0.5, 4.0)
        return (3 if three else 1) * original(x, size, scale_factor, *rest, **options)

    with torch.no_grad(), monkeypatch.context() as patch:
        patch.setattr(F, "interpolate", tripled)
        expected = model(images)
    changed, _ = replaced(kind, lambda channels: Tripled())
    with torch.no_grad():
        assert equal(changed(images), expected)
        nearest = replaced(kind, "nn")[0](images)
        assert equal(nearest, model(images)) and not equal(nearest, expected)


@each_model
@pytest.mark.parametrize("shared", [True, False])
def test_weights_and_their_names_stay_and_every_new_one_has_one_name(kind, shared):
    model, _ = made(kind)
    changed, _ = replaced(kind, shared=shared)
    new = set(changed.state_dict()) - set(model.state_dict())
    places = {name.removesuffix(".tail.bias") for name in new if name.endswith(".tail.bias")}
    assert places == MODELS[kind][1 if shared else 2] and all(name.startswith(tuple(places)) for name in new)
    assert equal([changed.state_dict()[name] for name in model.state_dict()], model.state_dict().values())
    loaded = changed.load_state_dict(model.state_dict(), strict=False)
    assert loaded.unexpected_keys == [] and set(loaded.missing_keys) <= new
    assert isinstance(changed, type(model)) and type(changed).__name__ == type(model).__name__


@each_model
@pytest.mark.parametrize("training", [False, True])
def test_upsamplers_are_in_the_mode_of_what_they_come_to(kind, training):
    """In training mode, batch norms of a generator would go by each image that a detector at work sees."""
    model, images = made(kind)
    model.train(training)
    fixed = next(part for part in model.modules() if isinstance(part, nn.BatchNorm2d)).eval()
    model = replace_upsampling(model, small, lambda: model(images))
    assert all(part.training == training for part in model.modules() if part is not fixed)
    assert not fixed.training


def test_a_pyramid_is_replaced_by_every_name_that_it_has():
    model = nn.Module()
    model.fpn = model.neck = FeaturePyramidNetwork([4, 4], 8)
    model.around = nn.Sequential(model.fpn)
    replace_upsampling(model, "nn")
    assert type(model.fpn) is not FeaturePyramidNetwork
    assert model.neck is model.fpn and model.around[0] is model.fpn


@each_model
def test_copies_and_files_compute_the_same_and_share_nothing(kind):
    model, images = replaced(kind)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    with torch.no_grad():
        expected = model(images)
        for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
            assert equal(other(images), expected)
            for parameter in other.parameters():
                parameter.zero_()
            assert not equal(other(images), expected) and equal(model(images), expected)
    again, _ = replaced(kind)
    again.load_state_dict(model.state_dict())
    assert equal(again(images), expected)


@each_model
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_upsamplers_train(kind, precision):
    model, images = replaced(kind)
    model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        sum(x.float().square().mean() for x in flat(model(images))).backward()
    gradients = [p.grad for name, p in model.named_parameters() if ".upsample" in f".{name}"]
    assert gradients and all(g is not None and g.isfinite().all() for g in gradients)
    assert sum(g.abs().sum() for g in gradients) > 0


@pytest.mark.parametrize("kind", ["ultralytics", "mmdetection", "one in the other"])
def test_compiled_in_one_graph_and_exported(kind):
    model, images = replaced(kind)
    torch._dynamo.reset()
    with torch.no_grad():
        expected = flat(model(images))
        compiled = flat(torch.compile(model, backend="eager", fullgraph=True)(images))
        exported = flat(torch.export.export(model, (images,)).module()(images))
    for result in (compiled, exported):
        torch.testing.assert_close(result, expected)


def test_looking_leaves_the_model_as_it_was():
    model, images = made("mmdetection")
    model.train()
    before = copy.deepcopy(model.state_dict())
    maps = upsampled_maps(model, lambda: model(images))
    assert [(name, tuple(x.shape)) for name, x in maps] == [("neck", (2, 8, 5, 7)), ("neck", (2, 8, 9, 13))]
    assert equal(model.state_dict().values(), before.values()) and not maps[0][1].requires_grad
    assert all(
        part.training and not part._forward_hooks and not part._forward_pre_hooks for part in model.modules()
    )


def test_a_part_of_a_model_is_changed_by_a_run_of_the_whole():
    model, images = made("one in the other")
    replace_upsampling(model.inner, small, lambda: model(images))
    assert {name.split(".upsamplers")[0] for name in model.state_dict() if "upsamplers" in name} == {
        "inner.layers.3"
    }
    model(images)


class Enlarging(nn.Module):
    """As torchvision's detectors: images are enlarged before, masks behind, by two or whatever factor it takes."""

    def __init__(self):
        super().__init__()
        self.net = YoloLike()

    def forward(self, images):
        found = self.net(F.interpolate(images, scale_factor=64 / images.shape[-1], mode="bilinear"))
        return found, F.interpolate(found[:, :1], size=images.shape[-2:], mode="bilinear")


def test_images_and_masks_are_no_feature_maps():
    model, images = Enlarging().eval(), {side: torch.rand(1, 3, side, side) for side in (32, 48, 64)}
    before = {side: model(image) for side, image in images.items()}
    for side in (32, 64):  # which doubles the images, and the masks
        maps = [
            (name, one.shape[1]) for name, one in upsampled_maps(model, lambda side=side: model(images[side]))
        ]
        assert maps == [("net.layers.3", 8), ("net.layers.6", 8)]
    replace_upsampling(model, "nn", lambda: model(images[32]))
    assert all(equal(model(image), before[side]) for side, image in images.items())


class Segmenting(nn.Module):
    """As a U-Net: the layer that doubles the maps enlarges the mask at the end, too."""

    def __init__(self):
        super().__init__()
        self.down, self.mask = conv(3, 8, 4), nn.Conv2d(8, 1, 1)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, images):
        return self.up(self.mask(self.up(self.down(images))))


def test_a_layer_of_maps_and_of_masks_leaves_the_masks_as_they_are():
    model, images = Segmenting().eval(), torch.randn(1, 3, 32, 48)
    before = model(images)
    replace_upsampling(model, "bilinear", lambda: model(images))
    assert equal(model(images), before)
    assert list(model.up.upsamplers) == ["8"]


def test_torchvisions_detectors_need_no_run():
    model, images = nn.Sequential(), {"a": torch.randn(1, 4, 9, 13), "b": torch.randn(1, 4, 5, 7)}
    model.fpn = FeaturePyramidNetwork([4, 4], 8)
    assert replace_upsampling(model, "sapa") is model
    assert model.fpn(images)["a"].shape == (1, 8, 9, 13) and "fpn.upsample.query.weight" in model.state_dict()


class Given:
    """Models and arguments of `replace_upsampling` that cannot be used."""

    yolo, two_widths, inline = YoloLike(), YoloLike(6), Stem(MMDetectionLike(mode="nearest"))
    four, none = nn.Upsample(scale_factor=4), nn.Conv2d(3, 3, 1)
    images = torch.zeros(1, 3, 32, 32)

    @classmethod
    def of(cls, name, upsample, run=True, **options):
        model = getattr(cls, name)
        return replace_upsampling(model, upsample, (lambda: model(cls.images)) if run else None, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Given.of("none", "nn"),
            "nothing in Conv2d interpolates a map .* by two in this run. Run it on",
        ),
        (lambda: Given.of("four", "nn"), "only by other factors, in Upsample: 32x32 to 128x128"),
        (
            lambda: Given.of("none", "nn", run=False),
            "nothing in Conv2d is known to upsample without a run of it",
        ),
        (
            lambda: Given.of("yolo", "nn", run=False),
            "layers.3, layers.6 upsamples only shows in a run: give run",
        ),
        (
            lambda: Given.of("two_widths", build_upsampler("nn", 8)),
            "maps of several widths, 8 channels in layers.3, 6 channels in layers.6; give a name",
        ),
        (lambda: Given.of("yolo", build_upsampler("srf", 6)), r"must map \(1, 8, 4, 6\) to \(1, 8, 8, 12\)"),
        (lambda: Given.of("yolo", nn.Identity(), shared=False), "shared=False wants one for each place"),
        (
            lambda: Given.of("inline", "sapa"),
            "guided by the finer map, which the interpolation in neck does not get",
        ),
        (lambda: Given.of("yolo", "nearest"), "no upsampler named 'nearest'"),
        (
            lambda: Given.of("yolo", lambda channels: channels),
            "upsample makes an int for 8 channels, not a module",
        ),
        (
            lambda: replace_upsampling(Given.yolo, "nn", Given.images),
            "run is a Tensor .*; give run, a function",
        ),
        (lambda: replace_upsampling("yolo", "nn"), "module is a str, not a torch module"),
        (lambda: upsampled_maps(Given.none, lambda: None), "nothing in Conv2d interpolates"),
    ],
)
def test_what_cannot_be_replaced_is_said_and_nothing_changes(call, message):
    with pytest.raises(InputError, match=message):
        call()
    assert not any("upsamplers" in name for name, _ in Given.yolo.named_modules())


def test_scripted_parts_are_left_as_they_are():
    """Hooks on them are an error of torch's, which had come through."""
    scripted = torch.jit.script(nn.Sequential(nn.Upsample(scale_factor=2)))
    model = nn.Sequential(nn.Conv2d(3, 8, 1), scripted, nn.Upsample(scale_factor=2))
    replaced = replace_upsampling(model, "carafe", lambda: model(torch.zeros(1, 3, 8, 8)))
    assert replaced[1] is scripted and len(list(replaced.parameters())) > len(list(replaced[0].parameters()))
    assert replaced(torch.zeros(1, 3, 8, 8)).shape == (1, 8, 32, 32)


def test_a_replacement_is_not_replaced():
    model, images = replaced("mmdetection")
    with pytest.raises(InputError, match="the upsampling of neck is replaced already"):
        replace_upsampling(model, "nn", lambda: model(images))


def test_a_forward_that_hides_the_replacement_is_refused():
    model, images = made("mmdetection")
    model.neck.forward = model.neck.forward
    with pytest.raises(InputError, match="neck has been given a forward of its own"):
        replace_upsampling(model, "nn", lambda: model(images))


def test_a_forward_that_upsamples_otherwise_is_refused():
    maps = [torch.randn(1, 8, side, side) for side in (16, 8, 4)]
    neck = replaced("mmdetection")[0].neck
    with pytest.raises(
        InputError, match=r"neck interpolates other maps by two .*: of 8 and 8 channels then, 8 now"
    ):
        neck([maps[0], maps[1], torch.randn(1, 8, 2, 2)])
    layer = replaced("ultralytics")[0].layers[3]
    with pytest.raises(
        InputError, match=r"layers\.3 interpolates other maps by two .* of 8 channels then, 1 of 5 now"
    ):
        layer(torch.randn(1, 5, 4, 4))
    layer.scale_factor = 4.0
    with pytest.raises(
        InputError, match=r"layers\.3 got a map of shape \(1, 8, 4, 4\), which it cannot double"
    ):
        layer(maps[2])
