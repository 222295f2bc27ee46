"""The blocks of `gpu.py` that say whether a GPU computes what a CPU does."""

import copy
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch
from gpu_cases import Item, Machine, batch, images, steps, targets, trainer
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from srfgan.models import build_detector
from srfgan.models.detector import Detector
from srfgan.models.ops.recorded import Recorded
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan_cli.machine.distributed import World
from srfgan_cli.machine.precision import autocast, float32_products

DETECTORS = (
    *("faster_rcnn", "mask_rcnn", "cascade_mask_rcnn", "retinanet", "fcos", "centermask", "sparse_rcnn"),
)
BODIES = (
    "cascade_rcnn_swin_t_bifpn",
    "cascade_s101_pafpn",
    "centermask_v99_fpn_nn_3x",
    "mask_rcnn_lite0_fpn",
)
NECKS = ("mask_rcnn_r18_pafpn", "fcos_r18_bifpn")
TAME = ("model.backbone.norm=bn", "model.backbone.freeze_at=0")
"""Random weights whose features neither grow nor vanish from block to block."""
STAGES = ("pretrain", "extract", "finetune")
ROOT = Path(__file__).parents[1]


def detectors(machine: Machine) -> Iterator[Item]:
    """Every detector, neck and upsampler at 128 pixels, true float32: relative differences between GPU and CPU."""
    cases = [(f"{name}_r18_fpn", "srf") for name in DETECTORS] + [(name, "srf") for name in NECKS]
    cases += [("mask_rcnn_r18_fpn", upsampler) for upsampler in UPSAMPLERS if upsampler != "srf"]
    for name, upsampler in cases:
        with float32_products("fp32"):
            yield f"{name} {upsampler}", _compared(machine, name, upsampler)


def _compared(machine: Machine, name: str, upsampler: str) -> dict[str, object]:
    config = machine.preset(name, f"model.neck.upsampler={upsampler}").model
    host, device = (
        _outcome(build_detector, config, place) for place in (torch.device("cpu"), machine.device)
    )
    pyramid = max(_relative(device[0][k], host[0][k]) for k in host[0])
    losses = {k: _relative(device[1][k], host[1][k], floor=1e-3) for k in host[1]}
    # A gradient much smaller than the largest is what is left of larger ones that cancel.
    floor = 1e-3 * max(float(g) for g in host[2].values())
    gradient, where = max((_relative(device[2][k], host[2][k], floor), k) for k in host[2])
    return {
        "pyramid": pyramid,
        "loss": max(losses.values()),
        "gradient": gradient,
        "gradient_of": where,
        "found": [host[3], device[3]],
    }


def _outcome(build, config, place: torch.device):
    """The pyramid, losses, gradient norms and numbers of detections of one network on `place`."""
    torch.manual_seed(0)
    model: Detector = build(config).to(place).eval()
    pictures = images(2, (128, 160))
    with torch.no_grad():
        pyramid = model.pyramid(model.preprocess(pictures)[0])
        found = [len(part.boxes) for part in model(pictures)]
    model.train()
    shuffle = torch.randperm
    torch.randperm = lambda n, **options: torch.arange(n, device=options.get("device"))
    try:
        losses = model(pictures, targets(2, (128, 160), masks=config.has_masks))
    finally:
        torch.randperm = shuffle
    torch.stack(list(losses.values())).sum().backward()
    norms = {name: p.grad.norm() for name, p in model.named_parameters() if p.grad is not None}
    return pyramid, losses, norms, found


def _relative(a: Tensor, b: Tensor, floor: float = 1e-12) -> float:
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return float((a - b).abs().max() / b.abs().max().clamp(min=floor))


def recorded(machine: Machine) -> Iterator[Item]:
    """Pyramids played back from CUDA graphs against those without: the largest relative difference of a map."""
    names = [*(f"{name}_r18_fpn" for name in DETECTORS), *NECKS, "mask_rcnn_r18_augfpn"]
    cases = [(name, "srf") for name in [*names, *(BODIES if machine.cuda else ())]]
    cases += [("mask_rcnn_r18_fpn", upsampler) for upsampler in UPSAMPLERS if upsampler != "srf"]
    for (name, upsampler), precision in product(cases, ("fp32", "bf16")):
        torch.manual_seed(0)
        model = build_detector(machine.preset(name, f"model.neck.upsampler={upsampler}").model)
        model.to(machine.device).eval()
        with torch.inference_mode(), float32_products(precision), autocast(machine.device, precision):
            yield f"{name} {upsampler} {precision}", _played_back(model)


def _played_back(model: Detector) -> dict[str, object]:
    sizes = ((128, 160), (96, 128))
    batches = [model.preprocess(images(2, size)[k : k + 1])[0] for size in sizes for k in range(2)]
    expected = [model.pyramid(batch) for batch in batches]
    play = Recorded(model.pyramid)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for batch in batches:
            play(batch)
        apart = max(_apart(play(batch), maps) for batch, maps in zip(batches, expected, strict=True))
    refusals = [str(w.message) for w in said if "not recorded" in str(w.message)]
    return {"difference": apart, **({"said": refusals[0]} if refusals else {})}


def _apart(maps: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    return max(_relative(maps[level], expected[level]) for level in expected)


def precision(machine: Machine) -> Iterator[Item]:
    """The second step's losses of each stage in every precision."""
    given = batch(1, _half(machine), machine)
    names = ("fp32", "tf32", "bf16", "fp16") if machine.cuda else ("fp32", "bf16")
    for stage, name in product(STAGES, names):
        made = trainer(machine, stage, given, *TAME, precision=name)
        # At torch's own first scale, 65536, gradients overflow and the first steps are left out, three or more.
        made.scaler = GradScaler(machine.device.type, init_scale=256.0, enabled=name == "fp16")
        yield f"{stage} {name}", steps(made, 2)[-1]


def resume(machine: Machine) -> Iterator[Item]:
    """The largest difference of a loss after a resume, three steps on; a GPU adds in any order."""
    given = batch(1, _half(machine), machine)
    for stage in STAGES:
        whole = trainer(machine, stage, given, *TAME, window=8)
        steps(whole, 2)
        state = copy.deepcopy(whole.state())
        expected = steps(whole, 3)[-1]
        later = trainer(machine, stage, given, *TAME, window=8)
        later.load_state(state)
        got = steps(later, 3)[-1]
        yield stage, _difference(got, expected)


def ddp(machine: Machine) -> Iterator[Item]:
    """Two steps of each stage in DDP with one process, over NCCL, beside the same without; with SyncBN too.

    The largest difference of a loss. Two runs without DDP differ as well, since a GPU adds in any order.
    """
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511", RANK="0", WORLD_SIZE="1")
    torch.distributed.init_process_group("nccl" if machine.cuda else "gloo", rank=0, world_size=1)
    given = batch(2, _half(machine), machine)
    try:
        for stage in STAGES:
            alone, again = (steps(trainer(machine, stage, given, *TAME), 2)[-1] for _ in range(2))
            yield f"{stage} without, twice", _difference(again, alone)
            for sync_bn in (False, True):
                world = _Several(machine.device, sync_bn=sync_bn)
                joined = steps(trainer(machine, stage, given, *TAME, world=world), 2)[-1]
                yield f"{stage}{' SyncBN' if sync_bn else ''}", _difference(joined, alone)
    finally:
        torch.distributed.destroy_process_group()


def _difference(losses: dict[str, float], expected: dict[str, float]) -> dict[str, object]:
    """Of the sum of all losses: one of few boxes, a thousandth of it, is another as soon as one box is."""
    differences = {k: abs(losses[k] - expected[k]) / sum(map(abs, expected.values())) for k in expected}
    largest = max(differences, key=lambda k: differences[k])
    return {"difference": differences[largest], "of": largest}


class _Several(World):
    """One process that wraps its networks as if it were one of several."""

    def parallel(self, module: nn.Module) -> nn.Module:
        return World(self.device, size=2, sync_bn=self.sync_bn).parallel(module)


def commands(machine: Machine) -> Iterator[Item]:
    """The method by its commands on built-in data, from a folder elsewhere: exit codes, box AP, words of a failure."""
    count = "60" if machine.cuda else "2"
    small = ["--set", "data.shapes_train=64", "--set", "data.shapes_val=16", "--set", "data.workers=2"]
    place = ["--devices", "1" if machine.cuda else "cpu"]
    trained = ["--weights", "runs/finetune/demo"]
    shown = ["--methods", "nn,bilinear,srf", "--output", "P2.png"]
    tiles = ["--tiles", "300", "--precision", "bf16"]
    train = ["--iterations", count, *small, *place]
    lines = {
        "F": ["finetune", "--preset", "demo_nn", *train],
        "stage 1": ["pretrain", "--preset", "demo", *train],
        "stage 2": ["extract", "--preset", "demo", "--precision", "bf16", *train],
        "stage 3": ["finetune", "--preset", "demo", *train],
        "eval": ["eval", "--preset", "demo", "--json", *small, *place],
        "eval bf16": ["eval", "--preset", "demo", "--precision", "bf16", "--json", *small, *place],
        "P2": ["visualize", "P2", "--preset", "demo", *shown, *place],
        "predict": ["predict", "P2.png", *trained, *place],
        "predict in tiles, bf16": ["predict", "P2.png", *tiles, *trained, *place],
        "eval --tta": ["eval", "--preset", "demo", "--tta", "--json", *small, *place],
        "export": ["export", "--format", "pt2", "--image", "P2.png", *trained],
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in lines.items():
            command = [sys.executable, "-P", "-m", "srfgan_cli", *arguments]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=_environment())
            box = re.search(r'"AP": ([\d.]+)', done.stdout)
            scored = {"AP": float(box[1])} if box else {}
            said = {"said": done.stderr[-300:]} if done.returncode else {}
            yield name, {"code": done.returncode} | scored | said


def _environment() -> dict[str, str]:
    paths = [str(ROOT), *(str(Path(p).resolve()) for p in os.environ.get("PYTHONPATH", "").split(":") if p)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _half(machine: Machine) -> tuple[int, int]:
    height, width = machine.size
    return (height // 2, width // 2) if machine.cuda else machine.size
