"""What each stage trains, and what it leaves alone."""

import copy
import itertools
from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch
from detector_configs import fitting, model_config, stages_of
from torch import nn
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from srfgan.models import build_detector, build_discriminator, build_generator
from srfgan.models.errors import InputError
from srfgan.models.instance_masks import Polygons
from srfgan.models.structures import Target
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import (
    AdversarialConfig,
    ExtractConfig,
    FeatureEnhancementConfig,
    FinetuneConfig,
)
from srfgan_cli.training.adversarial import TERMS, RealLoss
from srfgan_cli.training.class_weights import weigh_classes
from srfgan_cli.training.engine import Hooks, Trainer
from srfgan_cli.training.extract import ExtractorLosses, ExtractStage, halve_map
from srfgan_cli.training.finetune import FinetuneStage
from srfgan_cli.training.freezing import freeze
from srfgan_cli.training.pretrain import PretrainStage, guide_maps

WORLD = World(torch.device("cpu"))
LEVELS = AdversarialConfig(levels=["p2", "p3", "p4", "p5"])


@pytest.fixture
def config():
    return load_preset(
        "faster_rcnn_r18_fpn",
        [
            "model.neck.channels=16",
            "model.box_head.fc_dim=32",
            "discriminator.widths=[16,16]",
            "model.num_classes=3",
        ],
    )


@pytest.fixture
def batch():
    torch.manual_seed(0)
    images = [torch.randint(0, 256, size, dtype=torch.uint8) for size in [(3, 97, 128), (3, 96, 113)]]
    boxes = torch.tensor([[8.0, 8, 60, 70]])
    targets = [Target(boxes, torch.tensor([1])), Target(boxes[:0], torch.zeros(0, dtype=torch.int64))]
    return Batch(images, targets, [1, 2], [(97, 128), (96, 113)])


def plain(config):
    torch.manual_seed(1)
    return build_detector(
        config.model.model_copy(update={"neck": config.model.neck.model_copy(update={"upsampler": "nn"})})
    )


def discriminator(config):
    return build_discriminator(config.discriminator, 16)


def backward(stage, batch):
    stage.train()
    names = []
    for losses in stage.losses(batch):
        sum(losses.values()).backward()
        names.append(sorted(losses))
    return names


def without_gradient(module):
    return [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]


def test_pretraining_trains_g_and_d_and_not_the_guide(config, batch):
    guide = plain(config)
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    stage = PretrainStage(
        guide,
        build_generator("srf", 16),
        discriminator(config),
        LEVELS,
        "bilinear",
        config.pretrain.solver,
        WORLD,
    )
    names = backward(stage, batch)
    assert names == [["loss_adversarial", "loss_content"], ["loss_d_fake"], ["loss_d_real"]]
    assert not without_gradient(stage.modules["generator"]) and not without_gradient(
        stage.modules["discriminator"]
    )
    for name, value in guide.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    ("pairing", "levels"), [("same", ["p2", "p3", "p4", "p5"]), ("different", ["p2", "p3", "p4"])]
)
def test_the_extractor_gets_detection_content_and_adversarial_gradients(config, batch, pairing, levels):
    stage = ExtractStage(
        plain(config),
        build_detector(config.model),
        discriminator(config),
        ExtractConfig(pairing=pairing, adversarial=AdversarialConfig(levels=levels)),
        "bilinear",
        WORLD,
    )
    generator_names, *discriminator_names = backward(stage, batch)
    assert generator_names[:2] == ["loss_adversarial", "loss_box_reg"] and "loss_content" in generator_names
    assert discriminator_names == [["loss_d_fake"], ["loss_d_real"]]
    assert not without_gradient(stage.modules["detector"]) and not without_gradient(
        stage.modules["discriminator"]
    )


def test_without_the_adversarial_term_there_is_no_discriminator_and_the_generator_is_the_same(config, batch):
    """A discriminator beside a weight of 0 changed nothing, and took most of stage 1; runs that have one go on."""
    solver = config.pretrain.solver.model_copy(update={"iterations": 2, "milestones": []})

    def trainer(judge, saved):
        torch.manual_seed(3)
        adversarial = LEVELS.model_copy(update={"weight": 0.0, "window": 8})
        generator = build_generator("srf", 16)
        stage = PretrainStage(plain(config), generator, judge, adversarial, "bilinear", solver, WORLD)
        return Trainer(stage, solver, WORLD, itertools.repeat(batch), Hooks(saved.update))

    judged, alone = {}, {}
    trainer(discriminator(config), judged).run()
    trainer(None, alone).run()
    assert set(judged["modules"]) == {"generator", "discriminator"} and set(alone["modules"]) == {"generator"}
    continued = trainer(None, {})
    continued.load_state(judged)
    resumed = continued.stage.modules["generator"].state_dict()
    for name, value in judged["modules"]["generator"].items():
        assert torch.equal(alone["modules"]["generator"][name], value), name
        assert torch.equal(resumed[name], value), name
    assert backward(continued.stage, batch) == [["loss_content"]]


def test_the_extractor_without_the_adversarial_term(config, batch):
    recipe = ExtractConfig(adversarial=LEVELS.model_copy(update={"weight": 0.0}))
    stage = ExtractStage(plain(config), build_detector(config.model), None, recipe, "bilinear", WORLD)
    (names,) = backward(stage, batch)
    assert "loss_content" in names and "loss_adversarial" not in names
    assert set(stage.modules) == set(stage.optimizers) == {"detector"} and len(stage.parallel) == 1
    assert not without_gradient(stage.modules["detector"])


def test_the_targets_of_stage_two_are_halved_with_the_image(config, batch):
    stage = ExtractStage(
        plain(config), build_detector(config.model), discriminator(config), ExtractConfig(), "bilinear", WORLD
    )
    stage.train()
    images, targets, real = stage._inputs(batch)
    assert [tuple(image.shape) for image in images] == [(3, 48, 64), (3, 48, 56)]
    torch.testing.assert_close(targets[0].boxes, batch.targets[0].boxes / 2)
    whole = guide_maps(stage.guide, batch.images, ["p2"])["p2"]
    torch.testing.assert_close(real["p2"], halve_map(whole, "bilinear"))
    stage._config = ExtractConfig(reduction="nn")  # the published code's
    torch.testing.assert_close(
        stage._inputs(batch)[2]["p2"], whole[..., :-1:2, ::2][..., : real["p2"].shape[-1]]
    )


def test_halving_a_map_bilinearly_averages_two_by_two():
    features = torch.arange(24.0).reshape(1, 1, 4, 6)
    expected = features.reshape(2, 2, 3, 2).mean(dim=(1, 3)).reshape(1, 1, 2, 3)
    torch.testing.assert_close(halve_map(features, "bilinear"), expected)
    odd = torch.nn.functional.pad(features, (0, 1, 0, 1), value=99.0)
    torch.testing.assert_close(halve_map(odd, "bilinear"), expected)
    assert halve_map(features[..., :1, :], "bilinear").shape == (1, 1, 1, 3)


def test_a_frozen_generator_keeps_weights_and_statistics(config, batch):
    detector = build_detector(config.model)
    stage = FinetuneStage(detector, FinetuneConfig(freeze_generator=True), WORLD)
    before = {name: value.clone() for name, value in detector.upsample.state_dict().items()}
    backward(stage, batch)
    for optimizer in stage.optimizers.values():
        optimizer.step()
    for name, value in detector.upsample.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)
    assert not without_gradient(detector)


def small_detector(name):
    """A detector of two classes on a ResNet of 10 layers."""
    backbone = {"name": "r10", "norm": "bn", "freeze_at": 0}
    sections = {"box_head": {"fc_dim": 16}, "mask_head": {"channels": 8, "num_convs": 1}}
    torch.manual_seed(0)
    return build_detector(
        model_config(
            name, num_classes=2, backbone=backbone, neck={"channels": 64, "upsampler": "nn"}, **sections
        )
    )


def test_what_is_frozen_by_name_keeps_weights_and_statistics(batch):
    """A norm that is frozen in part goes on learning its statistics."""
    detector = small_detector("faster_rcnn")
    patterns = ["neck.*", "head.rpn.*", "backbone.body.layer[24].*"]
    stage = FinetuneStage(detector, FinetuneConfig(freeze=[*patterns, "*.layer3.0.conv1.norm.bias"]), WORLD)
    norm = detector.backbone.body.layer3[0].conv1.norm
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    backward(stage, batch)
    stage.optimizers["detector"].step()
    after = detector.state_dict()
    kept = {name for name in after if any(fnmatchcase(name, pattern) for pattern in patterns)}
    assert sum("running_mean" in name for name in kept) >= 2
    assert all(torch.equal(after[name], before[name]) for name in kept)
    assert not torch.equal(after["head.box.classes.weight"], before["head.box.classes.weight"])
    assert norm.training and not torch.equal(
        norm.running_mean, before[_name(detector, norm) + ".running_mean"]
    )
    assert not without_gradient(detector)


def _name(detector, wanted):
    (name,) = (name for name, module in detector.named_modules() if module is wanted)
    return name


def test_frozen_parts_drop_nothing():
    """What follows them had been trained on maps that no weights could adapt to."""

    def part():
        return nn.ModuleDict(
            {"linear": nn.Linear(2, 2), "drop": nn.Dropout(), "path": StochasticDepth(0.5, "row")}
        )

    network = nn.ModuleDict({"frozen": part(), "trained": part(), "mixed": part()})
    assert freeze(network, ["frozen.*", "mixed.linear.bias"]) == ["frozen.drop", "frozen.path"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("neck", r"'neck' matches no parameter \(backbone.\*, head.\*, neck.\*\). Did you mean 'neck.\*'"),
        ("backbone.layer3.*", "Did you mean 'backbone.body.layer3.\\*'"),
        ("*", "nothing of the detector is left to train"),
    ],
)
def test_a_pattern_that_freezes_nothing_or_everything_is_refused(pattern, said):
    with pytest.raises(InputError, match=rf"finetune.freeze: .*{said}"):
        FinetuneStage(small_detector("fcos"), FinetuneConfig(freeze=[pattern]), WORLD)


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "fcos", "atss"])
def test_a_class_that_weighs_more_costs_more_by_as_much(name, batch):
    """All objects are of the second class: losses grow by their part of the loss, and by nothing else."""
    detector = small_detector(name).eval()  # so that norms and RetinaNet's average stay
    pixels, sizes = detector.preprocess(batch.images)
    with torch.no_grad():
        pyramid = detector.pyramid(pixels)

    @torch.no_grad()
    def losses(**weights):
        weigh_classes(detector, weights, CategoryMap((1, 2), ("cat", "dog")))
        torch.manual_seed(1)
        found = detector.losses_from_pyramid(pyramid, sizes, batch.targets)
        return {key: float(loss) for key, loss in found.items()}

    plain, other, two, three = losses(), losses(cat=5.0), losses(dog=2.0), losses(dog=3.0)
    assert other == pytest.approx(plain, rel=1e-6)
    for key in plain:
        grown = two[key] - plain[key]
        assert three[key] - two[key] == pytest.approx(grown, rel=1e-3, abs=1e-6)
        assert (0 < grown < plain[key]) if "_cls" in key and "rpn" not in key else grown == 0, key


def test_class_weights_that_cannot_be_are_refused():
    categories = CategoryMap((1, 2), ("cat", "dog"))
    with pytest.raises(
        InputError, match=r"class_weights: the data has no class 'dogs'. Did you mean 'dog'\?"
    ):
        weigh_classes(small_detector("fcos"), {"dogs": 2.0}, categories)
    with pytest.raises(InputError, match="sparse_rcnn takes objects for its predictions by the loss itself"):
        weigh_classes(small_detector("sparse_rcnn"), {"dog": 2.0}, categories)


def test_feature_enhancement_of_frozen_stages_is_refused():
    detector = small_detector("retinanet")
    wanted = FinetuneConfig(freeze=["*.layer4.*"], feature_enhancement=FeatureEnhancementConfig())
    with pytest.raises(InputError, match=r"freeze freezes backbone\.body\.layer4\..*leave out one"):
        FinetuneStage(detector, wanted, WORLD)


def test_feature_enhancement_adds_two_losses_that_reach_the_backbones_stages(config, batch):
    torch.manual_seed(2)
    detector = build_detector(config.model)
    plain_names = backward(FinetuneStage(detector, FinetuneConfig(), WORLD), batch)[0]
    stage = FinetuneStage(detector, FinetuneConfig(feature_enhancement=FeatureEnhancementConfig()), WORLD)
    stage.train()
    losses = next(stage.losses(batch))
    assert set(losses) - set(plain_names) == {"loss_fe_l2", "loss_fe_variance"}
    body = detector.backbone.body
    reached = {"loss_fe_l2": body["layer4"], "loss_fe_variance": body["layer2"]}
    for name, part in reached.items():
        detector.zero_grad()
        losses[name].backward()
        touched = {n for n, p in detector.named_parameters() if p.grad is not None}
        assert len(touched) == len(list(part.parameters())), name


def test_windows_are_drawn_again_when_a_run_resumes(config, batch):
    """Losses of stage 1 with windows, four steps in one go against two and two."""
    solver = config.pretrain.solver.model_copy(update={"iterations": 4, "milestones": [], "log_every": 100})
    solver = solver.model_copy(update={"checkpoint_every": 2})

    def trainer(saved):
        stage = PretrainStage(
            plain(config),
            build_generator("srf", 16),
            discriminator(config),
            AdversarialConfig(window=8),
            "bilinear",
            solver,
            WORLD,
        )
        hooks = Hooks(lambda state: saved.update({state["iteration"]: copy.deepcopy(state)}))
        return Trainer(stage, solver, WORLD, itertools.repeat(batch), hooks)

    saved = {}
    whole = trainer(saved)
    torch.manual_seed(5)
    whole.run()
    resumed = trainer({})
    torch.manual_seed(6)
    resumed.load_state(saved[2])
    resumed.run()
    for name, module in whole.stage.modules.items():
        other = resumed.stage.modules[name].state_dict()
        assert all(torch.equal(value, other[key]) for key, value in module.state_dict().items()), name


@pytest.fixture
def unwrapped(monkeypatch):
    """Several processes without any: what would be handed to DDP stays as it is."""
    monkeypatch.setattr("srfgan_cli.machine.distributed.DistributedDataParallel", lambda module, **_: module)


@pytest.mark.parametrize(("device", "synchronised"), [("cuda", True), ("cpu", False)])
def test_sync_bn_replaces_the_trained_networks_batch_norms_and_no_others(device, synchronised, unwrapped):
    """What the synchronised norms compute, torch gives on GPUs only; here, which they are."""
    small = [
        "model.neck.channels=16",
        "model.neck.norm=bn",
        "model.backbone.freeze_at=2",
        "discriminator.widths=[16]",
    ]
    config = load_preset("mask_rcnn_r18_fpn", [*small, "model.mask_head.norm=bn", "sync_bn=true"])
    guide, detector = plain(config), build_detector(config.model)
    d = build_discriminator(config.discriminator, 16)
    names = list(detector.state_dict())
    parameters = [id(p) for p in detector.parameters()]
    frozen = sum(isinstance(m, FrozenBatchNorm2d) for m in detector.modules())
    norms = [
        name for m in (detector, d) for name, part in m.named_modules() if isinstance(part, nn.BatchNorm2d)
    ]
    assert frozen > 0 and any("mask" in n for n in norms) and any("upsample" in n for n in norms)

    losses = [ExtractorLosses(detector, AdversarialConfig(), "same"), RealLoss(d, TERMS["logistic"])]
    for module in losses:
        World(torch.device(device), size=2, sync_bn=True).parallel(module)
    kind = nn.SyncBatchNorm if synchronised else nn.BatchNorm2d
    found = [name for m in (detector, d) for name, part in m.named_modules() if type(part) is kind]
    assert found == norms
    assert not any(isinstance(part, nn.SyncBatchNorm) for part in guide.modules())
    assert sum(isinstance(m, FrozenBatchNorm2d) for m in detector.modules()) == frozen
    assert list(detector.state_dict()) == names and [id(p) for p in detector.parameters()] == parameters


def test_images_too_small_for_the_generator_are_refused(config, batch):
    stage = PretrainStage(
        plain(config),
        build_generator("srf", 16),
        discriminator(config),
        LEVELS,
        "bilinear",
        config.pretrain.solver,
        WORLD,
    )
    small = Batch([batch.images[0][:, :64, :60]], batch.targets[:1], [1], [(64, 60)])
    with pytest.raises(InputError, match="A half-size image of 30x32 has a single pixel at p5"):
        next(stage.losses(small))


@pytest.mark.parametrize(
    "detector",
    [
        *("cascade_mask_rcnn", "panet", "libra_rcnn", "fcos", "atss", "centermask", "sparse_rcnn"),
        pytest.param("tridentnet", marks=pytest.mark.slow),
    ],
)
def test_gradients_come_with_their_weights_strides(config, batch, detector, unwrapped):
    """DDP's buffers follow the weights; it copies, and warns of, gradients of other strides."""
    small = ["model.neck.channels=64", "model.sparse_rcnn.stages=1", "model.box_head.fc_dim=32"]
    levels = [f"{stage}.adversarial.levels=[p3]" for stage in ("pretrain", "extract")]
    changes = [*fitting(small, detector), *levels, *stages_of(detector), "model.num_classes=3"]
    changes.append(f"model.detector={detector}")
    model = build_detector(load_preset("mask_rcnn_r18_fpn", changes).model).train()
    World(torch.device("cpu"), size=2).parallel(model)
    outline = Polygons((np.array([[8.0, 8], [60, 8], [60, 70]]),))
    masks = [[outline], []] if model.config.has_masks else [None, None]
    targets = [Target(t.boxes, t.labels, part) for t, part in zip(batch.targets, masks, strict=True)]
    sum(model(batch.images, targets).values()).backward()
    other = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.stride() != p.stride()]
    assert not other and any(p.dim() == 4 and p.shape[2:] == (1, 1) for p in model.parameters())
