"""One training step of stages 1 and 2, Mask R-CNN R-50-FPN, against the AFI-GAN authors' code on the same machine.

    PYTHONPATH=AFIGAN python benchmarks/against_afigan.py [--turns 5] [--threads 2] [--size 256 384] [--windows 32] ...

AFIGAN is a checkout of github.com/inhavl-shlee/AFI-GAN; it needs detectron2, and of its own nothing changed. Their step
is `run_step` of their two trainers with the batch in memory already; ours is the training loop's, with the recipe of
their repository: body `afi`, P2 to P6, 3x3 logits, targets halved by nearest neighbour, SGD. Both see the same images,
halves and ground truth and have the same weights, which a learning rate of 0 leaves as they are; the losses are
compared before anything is timed.

Theirs computes the generator's adversarial term on a detached output (METHOD.md, section 4), so ours has one pass more
through the discriminator, back to the maps. Theirs runs the discriminator twice on fake and on real maps, and in stage
1 the generator twice.

Ours is also timed with the discriminator on windows of the maps, and in bf16. Without the authors' code only ours is,
on a GPU too (`--device cuda`).
"""

import argparse
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from spread import picture, spread_detector
from timing import cpu_seconds, report, take_turns
from torch import nn
from torch.optim import Optimizer

from srfgan.models import Target, build_discriminator, build_generator
from srfgan.models.detector import Detector
from srfgan.models.instance_masks import Polygons
from srfgan.models.weights.names import to_ours
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import Config
from srfgan_cli.training.engine import Hooks, Trainer
from srfgan_cli.training.extract import ExtractStage
from srfgan_cli.training.pairs import halve, halve_targets
from srfgan_cli.training.pretrain import PretrainStage

PRESET = "mask_rcnn_r50_fpn_afi"
CONFIGS = {
    "pretrain": "step1_afigan_training/step1_AFI-GAN_training_mask_rcnn_R_50_FPN_1x.yaml",
    "extract": "step2_af_extractor_training/step2_AF-Extractor_training_mask_rcnn_R_50_FPN_1x.yaml",
}
"""Theirs of both stages."""
BOXES = 8
"""In each image; COCO has seven."""
TOLERANCE = 1e-4
DETECTION_TOLERANCE = 1e-3
"""Rounding can swap two proposals of like scores, and another is drawn."""


@dataclass(frozen=True)
class Networks:
    """What all contestants of a stage have: F, G or M, and D."""

    guide: Detector
    trained: nn.Module
    discriminator: nn.Module


def networks(stage: str, config: Config) -> Networks:
    """Random weights that give finite maps and distinct proposals."""
    guide = spread_detector(load_preset(config.sources.guide).model)
    channels = config.model.neck.channels
    discriminator = build_discriminator(config.discriminator, channels)
    if stage == "pretrain":
        return Networks(guide, build_generator(config.model.neck.upsampler, channels), discriminator)
    model = config.model.scaled(config.extract.anchor_scale)
    return Networks(guide, spread_detector(model), discriminator)


def make_batch(count: int, height: int, width: int) -> Batch:
    """Images with boxes from 16 pixels to the whole image, each its own mask; the same in every run."""
    generator = torch.Generator().manual_seed(0)
    extent = torch.tensor([width, height])
    images, targets = [], []
    for seed in range(count):
        sides = 16 * (extent / 16) ** torch.rand(BOXES, 2, generator=generator)
        corner = (extent - sides) * torch.rand(BOXES, 2, generator=generator)
        boxes = torch.cat([corner, corner + sides], dim=1)
        outlines = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(BOXES, 4, 2).double().numpy()
        labels = torch.randint(80, (BOXES,), generator=generator)
        images.append(picture(height, width, seed))
        targets.append(Target(boxes, labels, [Polygons((outline,)) for outline in outlines]))
    return Batch(images, targets, list(range(count)), [(height, width)] * count)


def ours(
    stage: str, config: Config, nets: Networks, batch: Batch, world: World, window: int | None, precision: str
) -> Trainer:
    """Our training loop before a step of a stage."""
    recipe = getattr(config, stage)
    adversarial = recipe.adversarial.model_copy(update={"window": window})
    solver = recipe.solver.model_copy(update={"precision": precision})
    recipe = recipe.model_copy(update={"adversarial": adversarial, "solver": solver})
    given, degradation = (nets.guide, nets.trained, nets.discriminator), config.data.degradation
    if stage == "pretrain":
        built = PretrainStage(*given, adversarial, degradation, solver, world)
    else:
        built = ExtractStage(*given, recipe, degradation, world)
    built.train()
    keep_weights(built.optimizers.values())
    return Trainer(built, solver, world, itertools.repeat(batch), Hooks(save=lambda state: None))


class Authors:
    """The authors' trainer, made past its constructor, which reads weight files and data sets."""

    def __init__(self, trainer) -> None:
        self.trainer = trainer

    def step(self) -> None:
        """Theirs."""
        with self.trainer.storage:
            self.trainer.run_step()

    def losses(self) -> dict[str, float]:
        """Of a step, as `our_losses`; theirs logs the super-resolved feature losses by level."""
        torch.manual_seed(0)
        self.step()
        logged = {name: value for name, (value, _) in self.trainer.storage.latest().items()}
        levels = {
            part: [v for n, v in logged.items() if n.startswith(f"{part}_loss_p")] for part in ("g", "d")
        }
        detection = {name: value for name, value in logged.items() if name.startswith("loss_")}
        return {part: sum(values) for part, values in levels.items()} | detection


def theirs(stage: str, nets: Networks, batch: Batch, degradation: str, world: World) -> Authors:
    """The authors' trainer before a step of a stage."""
    import afigan.engine as authors
    from detectron2.utils.events import EventStorage

    cfg = authors_config(stage, world.device.type)
    first = stage == "pretrain"
    kind = authors.AFIGAN_Trainer if first else authors.Multi_Scale_AF_Extractor_Trainer
    trained, discriminator, guide = kind.build_model(cfg)
    for network, source in (
        (guide, nets.guide),
        (trained, nets.trained),
        (discriminator, nets.discriminator),
    ):
        take_weights(network, source)
    trainer = kind.__new__(kind)
    trainer.device, trainer.distributed, trainer.storage = cfg.MODEL.DEVICE, False, EventStorage()
    trainer.feature_model, trainer.D_model = guide.eval(), discriminator.train()
    trainer.discriminator_criterion = nn.BCEWithLogitsLoss()
    trainer.D_optimizer = kind.build_optimizer(cfg, discriminator.Discriminators[0])
    optimizer = kind.build_optimizer(cfg, trained.Generators[0] if first else trained)
    data = itertools.repeat(authors_batch(batch, degradation))
    if first:
        trainer.G_model, trainer.G_optimizer, trainer._data_loader_iter = trained.train(), optimizer, data
    else:
        trainer.model, trainer.optimizer, trainer._data_loader_iter_obj = trained.train(), optimizer, data
    keep_weights([optimizer, trainer.D_optimizer])
    return Authors(trainer)


def authors_config(stage: str, device: str):
    """Their config of a stage."""
    import afigan
    from afigan.config import get_cfg

    cfg = get_cfg()
    cfg.merge_from_file(str(Path(afigan.__file__).parents[1] / "configs" / CONFIGS[stage]))
    cfg.MODEL.DEVICE = device
    return cfg


def take_weights(network: nn.Module, source: nn.Module) -> None:
    """Load ours into theirs.

    Raises:
        SystemExit: theirs has one that ours has not.
    """
    state = source.state_dict()
    found = {name: state[our_name(name)] for name in network.state_dict() if our_name(name) in state}
    missing = network.load_state_dict(found, strict=False).missing_keys
    if missing:
        raise SystemExit(f"weights of theirs that ours has not: {missing[:5]}")


def our_name(name: str) -> str:
    """Of a weight of theirs; G and D on their own have no prefix in ours."""
    return to_ours(name).removeprefix("generator.").removeprefix("discriminator.")


def authors_batch(batch: Batch, degradation: str) -> list[dict]:
    """The batch as their data loader gives it: images and halves, and the halves' ground truth."""
    from detectron2.structures import Boxes, Instances, PolygonMasks

    rows = []
    halves = zip(halve(batch.images, degradation), halve_targets(batch.targets), strict=True)
    for image, (half, target) in zip(batch.images, halves, strict=True):
        outlines = [[part.reshape(-1) for part in mask.parts] for mask in target.masks]
        fields = {"gt_boxes": Boxes(target.boxes), "gt_classes": target.labels}
        truth = Instances(tuple(half.shape[-2:]), **fields, gt_masks=PolygonMasks(outlines))
        rows.append(
            {
                "image": image.flip(0).contiguous(),
                "image_x0.5": half.flip(0).contiguous(),
                "instances": truth,
                "instances_x0.5": truth,
            }
        )
    return rows


def keep_weights(optimizers: Iterable[Optimizer]) -> None:
    """Step as usual, to where it started."""
    for group in itertools.chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
        group["lr"] = 0.0


def our_losses(trainer: Trainer) -> dict[str, float]:
    """Of a step: `g`, the super-resolved feature loss of G or M, `d`, that of D, and M's detection losses."""
    torch.manual_seed(0)
    trainer.step()
    losses = {name: loss.item() for name, loss in trainer.measured.pending.pop()["losses"].items()}
    g = losses.pop("loss_content") + losses.pop("loss_adversarial")
    d = losses.pop("loss_d_real") + losses.pop("loss_d_fake")
    return {"g": g, "d": d, **losses}


def compare(found: dict[str, float], wanted: dict[str, float]) -> str:
    """How far apart the losses are.

    Raises:
        SystemExit: too far.
    """
    if found.keys() != wanted.keys():
        raise SystemExit(f"different losses: {sorted(found)}, theirs {sorted(wanted)}")
    apart = {name: abs(found[name] / wanted[name] - 1) for name in wanted}
    for name, share in apart.items():
        if not share <= (TOLERANCE if name in ("g", "d") else DETECTION_TOLERANCE):
            raise SystemExit(f"{name} differs by {share:.1e} of theirs: {found}, theirs {wanted}")
    return ", ".join(f"{name} differs by {share:.0e}" for name, share in apart.items()) + " of theirs"


def run_stage(stage: str, batch: Batch, world: World, windows: list[int], turns: int) -> None:
    """Compare and time one stage."""
    config = load_preset(PRESET)
    nets = networks(stage, config)
    trainers = {}
    for precision, window in itertools.product(("fp32", "bf16"), (None, *windows)):
        name = f"srfgan {precision}, {f'windows of {window}' if window else 'whole maps'}"
        trainers[name] = ours(stage, config, nets, batch, world, window, precision)
    runs: dict[str, Callable[[], object]] = {}
    missing = [package for package in ("detectron2", "afigan") if find_spec(package) is None]
    if missing:
        print(f"{stage}: nothing to compare with, {' and '.join(missing)} cannot be imported.")
    else:
        authors = theirs(stage, nets, batch, config.data.degradation, world)
        print(f"{stage}: {compare(our_losses(next(iter(trainers.values()))), authors.losses())}")
        runs["authors"] = authors.step
    runs |= {name: trainer.step for name, trainer in trainers.items()}
    steps = {name: synchronised(run, world) for name, run in runs.items()}
    report(stage, take_turns(steps, turns), next(iter(steps)))
    if world.device.type == "cpu":
        seconds = {name: cpu_seconds(step) for name, step in steps.items()}
        print(
            "  user CPU of one step: " + ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
        )


def synchronised(run: Callable[[], object], world: World) -> Callable[[], None]:
    """`run` until the device is done."""

    def step() -> None:
        run()
        if world.device.type == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    """Compare and time both stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", type=int, nargs=2, default=(256, 384), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--windows", type=int, nargs="*", default=[32, 16])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    height, width = arguments.size
    print(
        f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads, "
        f"{arguments.images} images of {height}x{width}"
    )
    world = World(torch.device(arguments.device))
    batch = make_batch(arguments.images, height, width).to(world.device)
    for stage in arguments.stages:
        run_stage(stage, batch, world, arguments.windows, arguments.turns)


if __name__ == "__main__":
    main()
