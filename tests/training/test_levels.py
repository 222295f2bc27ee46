"""Detectors on other pyramid levels than p2..p6 in the adversarial stages, and extractors that change heads."""

import numpy as np
import pytest
import torch

from srfgan.models import build_detector, build_discriminator, build_generator
from srfgan.models.errors import InputError
from srfgan.models.instance_masks import Polygons
from srfgan.models.structures import Target
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import AdversarialConfig
from srfgan_cli.training.checkpoint import save_checkpoint
from srfgan_cli.training.extract import ExtractStage
from srfgan_cli.training.initial import load_initial
from srfgan_cli.training.pretrain import PretrainStage
from srfgan_cli.training.sources import (
    load_discriminator,
    load_guide,
    load_start,
    take_extractor,
    take_generator,
)

WORLD = World(torch.device("cpu"))
SMALL = ["model.backbone.name=r10", "discriminator.widths=[16,16]", "model.num_classes=3"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batch():
    torch.manual_seed(0)
    images = [torch.randint(0, 256, size, dtype=torch.uint8) for size in [(3, 97, 128), (3, 96, 113)]]
    boxes = torch.tensor([[8.0, 8, 60, 70]])
    outline = Polygons((np.array([[8.0, 8], [60, 8], [60, 70]]),))
    targets = [
        Target(boxes, torch.tensor([1]), [outline]),
        Target(boxes[:0], torch.zeros(0, dtype=torch.int64), []),
    ]
    return Batch(images, targets, [1, 2], [(97, 128), (96, 113)])


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("retinanet_r18_fpn", ["p3", "p4", "p5"]),
        ("fcos_r18_fpn", ["p3", "p4", "p5"]),
        ("atss_r18_fpn", ["p3", "p4", "p5"]),
        ("centermask_r18_fpn", ["p3", "p4", "p5"]),
        ("fcos_r18_bifpn", ["p3", "p4", "p5", "p6", "p7"]),
        ("sparse_rcnn_r18_fpn", ["p2", "p3", "p4", "p5"]),
        ("libra_rcnn_r18_fpn", ["p2", "p3", "p4", "p5"]),
    ],
)
def test_the_extractor_trains_on_the_levels_that_its_neck_has_and_upsamples(name, levels):
    config = load_preset(name, SMALL)
    assert config.extract.adversarial.levels == config.pretrain.adversarial.levels == levels
    stage = ExtractStage(
        build_detector(load_preset(f"{name}_nn", SMALL).model),
        build_detector(config.model),
        build_discriminator(config.discriminator, 64),
        config.extract,
        "bilinear",
        WORLD,
    )
    stage.train()
    for losses in stage.losses(batch()):
        sum(losses.values()).backward()
    lacking = [n for m in stage.modules.values() for n, p in m.named_parameters() if p.grad is None]
    assert lacking == []


def test_a_guide_without_the_level_is_refused():
    config = load_preset("fcos_r18_fpn", SMALL)
    stage = PretrainStage(
        build_detector(load_preset("fcos_r18_fpn_nn", SMALL).model),
        build_generator("srf", 64),
        build_discriminator(config.discriminator, 64),
        AdversarialConfig(levels=["p2", "p3"]),
        "bilinear",
        config.pretrain.solver,
        WORLD,
    )
    with pytest.raises(InputError, match=r"a fcos, has the levels p3, p4, p5, p6, p7 and no p2\."):
        next(stage.losses(batch()))


def test_a_half_padded_to_128_meets_the_whole_from_the_top_left():
    """AFI-GAN's BiFPN: 97 x 128 becomes 128 x 128, and its half of 48 x 64 as much as that."""
    published = ["model.neck.bifpn.wiring=afigan", "model.neck.bifpn.repeats=1"]
    config = load_preset("fcos_r18_bifpn", [*SMALL, *published])
    guide = build_detector(load_preset("fcos_r18_bifpn_nn", [*SMALL, *published]).model)
    stage = PretrainStage(
        guide,
        build_generator("srf", 64),
        build_discriminator(config.discriminator, 64),
        config.pretrain.adversarial,
        "bilinear",
        config.pretrain.solver,
        WORLD,
    )
    stage.train()
    stage._generator_losses.register_forward_hook(lambda module, given, output: seen.append((given, output)))
    seen = []
    for losses in stage.losses(batch()):
        sum(losses.values()).backward()
    (low, real, *_), (_, logits, target) = seen[0]
    assert low["p3"].shape[-2:] == (16, 16) == real["p3"].shape[-2:]
    assert [x.shape[-2:] for x in logits] == [x.shape[-2:] for x in target]
    assert [x.shape[-1] for x in target] == [16, 8, 4, 2, 1]
    assert all(p.grad is not None for p in stage.modules["generator"].parameters())
    with pytest.raises(InputError, match="A half-size image of 64x48 has a single pixel at p7"):
        next(stage.losses(Batch(batch().images[:1], batch().targets[:1], [1], [(97, 128)])))


def test_what_goes_by_the_size_of_the_image_is_scaled_with_it():
    for preset in ("retinanet_r50_fpn", "mask_rcnn_r50_fpn"):
        model = load_preset(preset).model
        assert model.scaled(0.5).anchors.sizes == [size / 2 for size in model.anchors.sizes]
    assert load_preset("fcos_r50_fpn").model.scaled(0.5).fcos.sizes_of_interest == [32, 64, 128, 256]


@pytest.mark.parametrize(
    ("trained", "target", "fresh"),
    [
        ("mask_rcnn_r18_fpn", "retinanet_r18_fpn", "neck.lateral.p2"),
        ("retinanet_r18_fpn", "faster_rcnn_r18_fpn", "neck.lateral.p2"),
        ("retinanet_r18_fpn", "centermask_r18_fpn", "neck.top.p6.weight [64, 256, 3, 3] -> [64, 64, 3, 3]"),
    ],
)
def test_an_extractor_serves_a_detector_with_other_levels(trained, target, fresh, tmp_path, capsys):
    """SRF-GAN paper, table 3."""
    source = build_detector(load_preset(trained, SMALL).model)
    path = tmp_path / "model.pt"
    save_checkpoint(
        path,
        {
            "stage": "extract",
            "model": source.config.model_dump(),
            "modules": {"detector": source.state_dict()},
        },
    )
    detector = build_detector(load_preset(target, SMALL).model)
    take_extractor(detector, path)
    ours, theirs = detector.state_dict(), source.state_dict()
    parts = [n for n in ours if n.startswith(("backbone.", "neck.")) and n in theirs]
    taken = [n for n in parts if ours[n].shape == theirs[n].shape]
    assert len(taken) > 100 and all(torch.equal(ours[n], theirs[n]) for n in taken)
    assert fresh in capsys.readouterr().err
    other = build_detector(load_preset(target, [*SMALL, "model.neck.upsampler=afi"]).model)
    with pytest.raises(InputError, match=r"holds the generator 'srf' of .* this preset's is 'afi'"):
        take_extractor(other, path)


def initial(detector, path):
    config = load_preset("mask_rcnn_r50_fpn", [f"initial_weights={path}"])
    load_initial(detector, config.model_copy(update={"model": detector.config}))


@pytest.mark.parametrize(
    ("take", "named"),
    [
        (take_extractor, "model.pt: these weights"),
        (lambda *given: load_start(*given, CategoryMap((1,), ("a",))), "model.pt: these weights"),
        (initial, "model.pt"),
    ],
)
def test_weights_that_know_other_pixels_or_strides_are_told_of(take, named, tmp_path, capsys):
    """As a detector on ImageNet weights that goes on in the preset for detectron2's: all shapes are the same."""
    config = load_preset("mask_rcnn_r50_fpn", SMALL[1:])
    other = ["model.pixel={order: RGB, mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]}"]
    other += ["model.backbone.stride_in_1x1=false"]
    trained = build_detector(load_preset("mask_rcnn_r50_fpn", [*SMALL[1:], *other]).model)
    path = tmp_path / "model.pt"
    modules = {"detector": trained.state_dict()}
    save_checkpoint(path, {"stage": "extract", "model": trained.config.model_dump(), "modules": modules})
    take(build_detector(config.model), path)
    said = capsys.readouterr().err
    assert f"{named} were trained with other pixels or strides than this preset's" in said
    advised = [part.strip("' \n") for part in said.split(" --set ")[1:]]
    assert advised == other
    take(build_detector(load_preset("mask_rcnn_r50_fpn", [*SMALL[1:], *advised]).model), path)
    assert not capsys.readouterr().err, "as they were"


def test_a_file_without_the_network_that_is_to_be_taken_is_told_so(tmp_path, capsys):
    """Not that it fits another preset."""
    config = load_preset("mask_rcnn_r18_fpn", SMALL)
    detector, path = build_detector(config.model), tmp_path / "model.pt"
    plain = build_detector(config.model.plain())
    save_checkpoint(path, {"stage": "finetune", "modules": {"detector": plain.state_dict()}})
    with pytest.raises(InputError, match=r"model\.pt holds no generator: give a stage-1 result"):
        take_generator(detector, path)
    load_guide(path, config.model)
    assert not capsys.readouterr().err
    model = detector.config.model_dump()
    save_checkpoint(path.with_name("t.pt"), {"model": model, "modules": {"detector": detector.state_dict()}})
    load_guide(path.with_name("t.pt"), config.model)
    assert "t.pt upsamples by 'srf': the papers' F is a plain detector" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"model\.pt holds no discriminator: give stage 1's own result"):
        load_discriminator(path, config.discriminator, config.model.neck.channels)
