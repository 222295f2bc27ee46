"""One training step of Sparse R-CNN and FCOS, R-50-FPN, `nn`, against their authors' code on the same machine.

    PYTHONPATH=SPARSE:ADELAIDET python benchmarks/against_references.py [--turns 7] [--threads 2] [--size 480 640] ...

A step is the forward and backward pass and the optimizer as each recipe has it (AdamW with clipped gradients; SGD) on
two images, float32, on the CPU. Both start from the same weights and see the same images and boxes; the losses are
compared before anything is timed. Needed are detectron2 and

- for `sparse_rcnn`, a checkout of github.com/PeizeSun/SparseR-CNN; SPARSE is its folder `projects/SparseRCNN`. Today's
  torchvision has no `_new_empty_tensor`: take what needs it out of `sparsercnn/util/misc.py`;
- for `fcos`, a checkout of github.com/aim-uofa/AdelaiDet; ADELAIDET is its folder. FCOS needs nothing of the compiled
  extension, which an empty `adet/_C.py` stands in for, and no other detector: take those out of
  `adet/modeling/__init__.py`.

A detector whose reference cannot be imported is skipped.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from spread import picture, spread_detector
from timing import cpu_seconds, report, take_turns
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from srfgan.models import Target
from srfgan_cli.export.detectron2_file import detectron2_names
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import SolverConfig
from srfgan_cli.training.optim import build_optimizer, set_lr

BATCH = 2
BOXES = 8
"""In each image; COCO has seven."""
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Reference:
    """An authors' project.

    Attributes:
        package: what is imported of it.
        config: of the detector, from the folder that the package lies in.
        preset: ours.
    """

    package: str
    config: str
    preset: str


REFERENCES = {
    "sparse_rcnn": Reference(
        "sparsercnn", "configs/sparsercnn.res50.100pro.3x.yaml", "sparse_rcnn_r50_fpn_nn"
    ),
    "fcos": Reference("adet", "configs/FCOS-Detection/R_50_1x.yaml", "fcos_r50_fpn_nn"),
}


@dataclass
class Contestant:
    """A detector in training mode with its optimizer.

    Attributes:
        losses: its named losses of the batch.
        update: what follows the backward pass, down to fresh gradients.
    """

    model: nn.Module
    losses: Callable[[], dict[str, Tensor]]
    optimizer: Optimizer
    update: Callable[[], None]

    def step(self) -> None:
        """One training step."""
        torch.stack(list(self.losses().values())).sum().backward()
        self.update()


def batch(height: int, width: int) -> tuple[list[Tensor], list[Target]]:
    """Images and boxes from 16 pixels to the whole image, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    extent = torch.tensor([width, height])
    images, targets = [], []
    for seed in range(BATCH):
        sides = 16 * (extent / 16) ** torch.rand(BOXES, 2, generator=generator)
        corner = (extent - sides) * torch.rand(BOXES, 2, generator=generator)
        labels = torch.randint(80, (BOXES,), generator=generator)
        images.append(picture(height, width, seed))
        targets.append(Target(torch.cat([corner, corner + sides], dim=1), labels))
    return images, targets


def ours(preset: str, images: list[Tensor], targets: list[Target]) -> tuple[Contestant, SolverConfig]:
    """Our detector, stepped as `srfgan finetune` does, and its recipe."""
    config = load_preset(preset)
    model, solver = spread_detector(config.model).train(), config.finetune.solver
    optimizer = build_optimizer(model, solver)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def update() -> None:
        norm = get_total_norm([p.grad for p in parameters])
        if solver.clip_norm is not None:
            clip_grads_with_norm_(parameters, solver.clip_norm, norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return Contestant(model, lambda: model(images, targets), optimizer, update), solver


def theirs(
    reference: Reference, source: nn.Module, images: list[Tensor], targets: list[Target]
) -> Contestant:
    """The authors' detector with the weights of `source`, and the optimizer of their training script."""
    from detectron2.modeling import build_model
    from detectron2.solver import build_optimizer as build_optimizer_of_detectron2
    from detectron2.structures import Boxes, Instances

    package = import_module(reference.package)
    cfg = authors_config(reference, Path(package.__file__).parents[1])
    model = build_model(cfg).train()
    state = source.state_dict()
    names = detectron2_names(state)
    model.load_state_dict({name: state[own] for name, own in names.items()})
    # AdelaiDet's script takes detectron2's optimizer, Sparse R-CNN's has its own.
    own_script = reference.package == "sparsercnn"
    build = (
        import_module("train_net").Trainer.build_optimizer if own_script else build_optimizer_of_detectron2
    )
    optimizer = build(cfg, model)
    inputs = []
    for image, target in zip(images, targets, strict=True):
        height, width = image.shape[-2:]
        truth = Instances((height, width), gt_boxes=Boxes(target.boxes), gt_classes=target.labels)
        pixels = image.flip(0).contiguous() if cfg.INPUT.FORMAT == "BGR" else image
        inputs.append({"image": pixels, "instances": truth, "height": height, "width": width})

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return Contestant(model, lambda: model(inputs), optimizer, update)


def authors_config(reference: Reference, folder: Path):
    """Their config of the detector, for the CPU."""
    if reference.package == "adet":
        cfg = import_module("adet.config").get_cfg()
    else:
        cfg = import_module("detectron2.config").get_cfg()
        import_module(reference.package).add_sparsercnn_config(cfg)
    cfg.merge_from_file(str(folder / reference.config))
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def compare(found: Contestant, expected: Contestant) -> str:
    """How far apart losses and trained parameters are.

    Raises:
        SystemExit: too far.
    """
    with torch.no_grad():
        losses, wanted = found.losses(), expected.losses()
    if losses.keys() != wanted.keys():
        raise SystemExit(f"different losses: {sorted(losses)}, theirs {sorted(wanted)}")
    worst = max(abs(losses[name].item() / wanted[name].item() - 1) for name in wanted)
    if not worst <= TOLERANCE:
        raise SystemExit(f"the losses differ by {worst:.1e} of theirs")
    trained, expected_trained = (
        sum(p.numel() for p in side.model.parameters() if p.requires_grad) for side in (found, expected)
    )
    if trained != expected_trained:
        raise SystemExit(f"{trained} parameters are trained, theirs {expected_trained}")
    return f"{len(wanted)} losses differ by at most {worst:.1e} of theirs, {trained / 1e6:.1f}M parameters trained"


def main() -> None:
    """Compare and time each detector."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--detectors", nargs="+", choices=REFERENCES, default=list(REFERENCES))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    height, width = arguments.size
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, {BATCH} images of {height}x{width}, float32"
    )
    for name in arguments.detectors:
        reference = REFERENCES[name]
        missing = [package for package in ("detectron2", reference.package) if find_spec(package) is None]
        if missing:
            print(f"{name}: nothing to compare with, {' and '.join(missing)} cannot be imported.")
            continue
        run_one(name, reference, *batch(height, width), arguments.turns)


def run_one(name: str, reference: Reference, images: list[Tensor], targets: list[Target], turns: int) -> None:
    """Compare and time one detector."""
    from detectron2.utils.events import EventStorage

    found, solver = ours(reference.preset, images, targets)
    expected = theirs(reference, found.model, images, targets)
    # Random weights shall stay as they are: the first, smallest rate of the warm-up.
    set_lr([found.optimizer, expected.optimizer], 0, solver)
    with EventStorage():  # which AdelaiDet logs its counts to
        print(f"{name}: {compare(found, expected)}")
        runs = {"reference": expected.step, "srfgan": found.step}
        seconds = {key: cpu_seconds(run) for key, run in runs.items()}
        report(name, take_turns(runs, turns), "reference")
    print("  user CPU of one step: " + ", ".join(f"{key} {value:.2f} s" for key, value in seconds.items()))


if __name__ == "__main__":
    main()
