"""Networks and data of every kind, small enough that a step takes half a second."""

import numpy as np
import torch
from detector_configs import fitting, stages_of
from torch import Tensor, nn

from srfgan.models import build_detector, build_discriminator, build_generator
from srfgan.models.instance_masks import Polygons
from srfgan.models.structures import Target
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import SolverConfig
from srfgan_cli.training.engine import Hooks, Trainer
from srfgan_cli.training.extract import ExtractStage
from srfgan_cli.training.finetune import FinetuneStage
from srfgan_cli.training.pretrain import PretrainStage

HOST = World(torch.device("cpu"))
SIZES = [(64, 96), (60, 80)]
SMALL = [
    "initial_weights=none",
    "model.backbone.name=r10",
    "model.neck.channels=32",
    "model.num_classes=3",
    "model.box_head.fc_dim=32",
    "model.mask_head.channels=16",
    "model.mask_head.num_convs=1",
    "model.centermask.proposal_threshold=0.0001",
    "model.fcos.pre_nms_topk=100",
    "model.atss.pre_nms_topk=100",
    "model.atss.anchor_strides=4.0",
    "model.rpn.pre_nms_topk_train=100",
    "model.rpn.pre_nms_topk_test=100",
    "model.trident.ranges=[[0,40],[20,60],[40,null]]",
    "model.sparse_rcnn.num_proposals=10",
    "model.sparse_rcnn.stages=2",
    "model.inference.score_threshold=0",
    "model.inference.detections_per_image=20",
    "evaluation.max_detections=20",
    "discriminator.widths=[16,16]",
    "pretrain.adversarial.levels=[p3,p4]",
    "pretrain.adversarial.window=8",
    "extract.adversarial.levels=[p3,p4]",
    "extract.adversarial.window=8",
]


def preset(*more: str):
    """FCOS and its kin have 32 groups of channels to normalise."""
    chosen = [text.removeprefix("model.detector=") for text in more if text.startswith("model.detector=")]
    detector = chosen[-1] if chosen else "mask_rcnn"
    channels = ["model.neck.channels=64"] if detector in ("fcos", "atss", "centermask") else []
    over = [*fitting(SMALL, detector), *channels, *stages_of(detector), *more]
    return load_preset("mask_rcnn_r18_fpn", over)


def small_batch() -> Batch:
    """Two images of different sizes, with two objects and one."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in SIZES]
    boxes = torch.tensor([[4.0, 4, 40, 50], [20, 10, 75, 55]])
    outlines = [Polygons((np.array([[x0, y0], [x1, y0], [x1, y1]]),)) for x0, y0, x1, y1 in boxes.numpy()]
    targets = [
        Target(boxes, torch.tensor([1, 2]), outlines),
        Target(boxes[:1], torch.tensor([0]), outlines[:1]),
    ]
    return Batch(images, targets, [1, 2], SIZES)


def small_detector(*more: str) -> nn.Module:
    """With random weights, but large enough ones in its classifiers that no two scores are equal."""
    torch.manual_seed(0)
    detector = build_detector(preset(*more).model)
    with torch.no_grad():
        for name, weight in detector.head.named_parameters():
            if "class" in name and weight.ndim > 1:
                weight.mul_(5)
    return detector


def small_stage(name: str, solver: SolverConfig, world: World, *more: str):
    """`pretrain`, `extract` or `finetune`; equal arguments give equal weights, wherever."""
    config = preset(*more)
    torch.manual_seed(0)
    if name == "finetune":
        return FinetuneStage(build_detector(config.model), config.finetune, world)
    guide, detector = (build_detector(config.model) for _ in range(2))
    channels = config.model.neck.channels
    discriminator = build_discriminator(config.discriminator, channels)
    if name == "extract":
        return ExtractStage(guide, detector, discriminator, config.extract, "bilinear", world)
    generator = build_generator("srf", channels)
    adversarial = config.pretrain.adversarial
    return PretrainStage(guide, generator, discriminator, adversarial, "bilinear", solver, world)


def small_trainer(name: str, solver: SolverConfig, world: World, *more: str, steps: int = 2) -> Trainer:
    """A trainer of `steps` optimizer steps, on page-locked batches where they go to a GPU."""
    stage = small_stage(name, solver, world, *more)
    stage.train()
    given = small_batch()
    batch = given.pin_memory() if world.device.type == "cuda" else given
    batches = iter([batch] * (steps * solver.accumulate))
    return Trainer(stage, solver, world, batches, Hooks(save=lambda state: None))


def measured(trainer: Trainer) -> list[dict[str, float]]:
    """The losses, and gradient norms as `norm NAME`, of each step so far."""
    trainer.measured.settle(trainer.iteration)
    trainer.measured.check_weights(trainer.stage.modules, trainer.iteration)
    return [
        row["losses"] | {f"norm {name}": value for name, value in row["norms"].items()}
        for row in trainer.measured.unlogged
    ]


def tensors_of(value) -> list[Tensor]:
    """All tensors in nested containers."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [x for item in value for x in tensors_of(item)] if isinstance(value, (list, tuple)) else []
