"""Under autocast the networks run in half precision, and what decides between numbers stays float32."""

import pytest
import torch
from detector_configs import fitting, stages_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from srfgan.models import build_detector, build_discriminator, build_generator
from srfgan.models.detector import Detector
from srfgan.models.instance_masks import MaskPatch
from srfgan.models.structures import Target
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.machine.precision import autocast, float32_products
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import SolverConfig
from srfgan_cli.training.engine import Hooks, Trainer
from srfgan_cli.training.finetune import FinetuneStage
from srfgan_cli.training.pretrain import PretrainStage

WORLD = World(torch.device("cpu"))
DETECTORS = (
    "mask_rcnn",
    "cascade_mask_rcnn",
    "panet",
    "tridentnet",
    "libra_rcnn",
    "retinanet",
    "fcos",
    "atss",
    "centermask",
    "sparse_rcnn",
)
PRECISE = (
    *("aten._embedding_bag", "torchvision.nms", "aten.exp", "aten.log", "aten.log2", "aten.softplus"),
    *(
        "aten.binary_cross_entropy_with_logits",
        "aten._log_softmax",
        "aten._softmax",
        "aten.sqrt",
        "aten.topk",
    ),
)
CONVOLUTIONS = ("aten.convolution", "aten.mm", "aten.addmm")


class Dtypes(TorchDispatchMode):
    """The floating-point types that the operations named above were given."""

    def __init__(self) -> None:
        super().__init__()
        self.precise: dict[str, set[torch.dtype]] = {}
        self.convolutions: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func.overloadpacket)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        given = {x.dtype for x in tensors if x.is_floating_point()}
        if name in PRECISE:
            self.precise.setdefault(name, set()).update(given)
        if name in CONVOLUTIONS:
            self.convolutions |= given
        return func(*args, **(kwargs or {}))


DEAR = {"cascade_mask_rcnn", "panet", "tridentnet"}
"""A step of one takes as long as five of Faster R-CNN's."""


def preset(*more: str):
    chosen = [text.removeprefix("model.detector=") for text in more if text.startswith("model.detector=")]
    small = [
        "initial_weights=none",
        "model.backbone.name=r10",
        "model.backbone.norm=bn",
        "model.neck.channels=64",
        "model.num_classes=3",
        "model.box_head.fc_dim=32",
        "model.mask_head.channels=16",
        "model.centermask.proposal_threshold=0.0001",
        "model.fcos.pre_nms_topk=100",
        "model.sparse_rcnn.num_proposals=10",
        "model.sparse_rcnn.stages=2",
        "discriminator.widths=[16,16]",
        "pretrain.adversarial.levels=[p3,p4]",
        "extract.adversarial.levels=[p3,p4]",
    ]
    detector = chosen[0] if chosen else "mask_rcnn"
    return load_preset("mask_rcnn_r18_fpn", [*fitting(small, detector), *stages_of(detector), *more])


def batch() -> Batch:
    torch.manual_seed(0)
    sizes = [(128, 160), (120, 150)]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    boxes = torch.tensor([[8.0, 8, 60, 70], [20, 30, 110, 100]])
    whole = [MaskPatch(torch.ones(9, 9, dtype=torch.uint8).numpy(), box.double().numpy()) for box in boxes]
    targets = [Target(boxes, torch.tensor([1, 2]), whole), Target(boxes[:1], torch.tensor([0]), whole[:1])]
    return Batch(images, targets, [1, 2], sizes)


def norms_are_float32(*modules: nn.Module) -> bool:
    norms = [part for module in modules for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    return bool(norms) and all(
        x.dtype == torch.float32
        for norm in norms
        for x in norm.state_dict().values()
        if x.is_floating_point()
    )


@pytest.mark.parametrize(
    "detector",
    # bfloat16 is emulated on most CPUs; the heads of the slow ones are others' parts in another order.
    [pytest.param(name, marks=[pytest.mark.slow] * (name in DEAR)) for name in DETECTORS],
)
def test_half_precision_gives_the_losses_of_float32(detector):
    given, losses = batch(), []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = build_detector(preset(f"model.detector={detector}").model).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), Dtypes() as seen:
            losses.append(model(given.images, given.targets))
    sum(losses[1].values()).backward()
    assert torch.bfloat16 in seen.convolutions, "nothing ran in half precision"
    assert {name for name, dtypes in seen.precise.items() if dtypes != {torch.float32}} == set()
    for name, loss in losses[1].items():
        assert loss.dtype == torch.float32
        # Sparse R-CNN's second iteration starts from boxes that its first one moved.
        rtol = 0.04 if detector == "sparse_rcnn" else 0.02
        torch.testing.assert_close(loss, losses[0][name], rtol=rtol, atol=1e-3, msg=f"{name}: {losses}")
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert norms_are_float32(model)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_adversarial_losses_are_float32(precision):
    config = preset()
    values = {}
    for chosen in ("fp32", precision):
        torch.manual_seed(0)
        guide, generator = build_detector(config.model), build_generator("srf", 64)
        discriminator = build_discriminator(config.discriminator, 64)
        solver = SolverConfig(iterations=2, lr=0.001, precision=chosen)
        adversarial = config.pretrain.adversarial
        stage = PretrainStage(guide, generator, discriminator, adversarial, "bilinear", solver, WORLD)
        given = batch()
        trainer = Trainer(stage, solver, WORLD, iter([given] * 2), Hooks(save=lambda state: None))
        stage.train()
        with Dtypes() as seen:
            trainer.step()
        values[chosen] = trainer.measured.pending[0]["losses"]
        before = generator.tail.weight.detach().clone()
        trainer.step()
        assert not torch.equal(before, generator.tail.weight), "the scaler skipped the step"
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert half in seen.convolutions and norms_are_float32(generator, discriminator)
    assert seen.precise["aten.softplus"] == {torch.float32}
    for name, loss in values[precision].items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, values["fp32"][name], rtol=0.02, atol=1e-3, msg=name)
    assert all(p.isfinite().all() for p in generator.parameters())


def products() -> tuple[bool, bool]:
    """Whether matrix products and convolutions of float32 may be of TF32."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


EXACT, ROUNDED = (False, False), (True, True)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_precision_says_how_a_gpu_multiplies(precision):
    """torch's own default rounds convolutions to TF32 and leaves matrix products exact: neither one nor the other."""
    before = products()
    wanted = EXACT if precision == "fp32" else ROUNDED
    with float32_products(precision):
        assert products() == wanted
        with pytest.raises(ValueError, match="wrong"), float32_products("fp32"):
            assert products() == EXACT
            raise ValueError("wrong")
        assert products() == wanted
    assert before == products()
    with autocast(torch.device("cpu"), precision):
        assert torch.is_autocast_enabled("cpu") is (precision in ("bf16", "fp16"))


def test_scores_are_exact_whatever_the_training_is(srfgan, monkeypatch):
    seen = {}
    detect, losses = Detector.detect, FinetuneStage.losses
    monkeypatch.setattr(Detector, "detect", lambda *a: seen.update(scores=products()) or detect(*a))
    monkeypatch.setattr(FinetuneStage, "losses", lambda *a: seen.update(steps=products()) or losses(*a))
    small = ["--set", "data.shapes_train=2", "--set", "data.shapes_val=1", "--set", "data.workers=0"]
    done = srfgan(
        "finetune", "--preset", "demo_nn", "--devices", "cpu", "--iterations", 1, "--batch-size", 2, *small
    )
    assert done.code == 0, done.err
    assert seen == {"steps": ROUNDED, "scores": EXACT}
