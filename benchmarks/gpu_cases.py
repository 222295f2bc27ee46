"""What `gpu.py` runs: images, targets, detectors and the stages' trainers, in the sizes of a GPU or of a smoke run."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from srfgan.models.detector import Detector
from srfgan.models.instance_masks import Polygons
from srfgan.models.structures import Target
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.machine.precision import float32_products
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import Config, SolverConfig
from srfgan_cli.training.compilation import compile_networks
from srfgan_cli.training.engine import Trainer
from srfgan_cli.training.fresh import fresh_stage, standing_trainer

CLASSES = 3
Item = tuple[str, object]
"""Of a block: what was measured, and what was found."""
SMOKE = Path(__file__).with_name("smoke.yaml")
"""What makes the networks small."""
CORNERS = [[0.1, 0.1, 0.4, 0.5], [0.5, 0.2, 0.9, 0.8], [0.3, 0.6, 0.45, 0.9], [0.05, 0.05, 0.12, 0.12]]


@dataclass(frozen=True)
class Machine:
    """Where the blocks run, and how large.

    Attributes:
        device: a GPU, or in a smoke run the CPU.
        size: of the images of the speed blocks, in pixels.
        backbone: of their detectors.
        runs: how often something is timed.
        cases: of the parity cases, those that are compared; all but the largest if there are none.
    """

    device: torch.device
    size: tuple[int, int] = (800, 1216)
    backbone: str = "r50"
    runs: int = 12
    cases: tuple[str, ...] = ()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def preset(self, name: str, *changes: str) -> Config:
        """A preset with three classes, in a smoke run of small networks."""
        return load_preset(name, [f"model.num_classes={CLASSES}", *changes], None if self.cuda else SMOKE)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def images(count: int, size: tuple[int, int]) -> list[Tensor]:
    """Smooth random pictures, (3, H, W) uint8."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, max(2, size[0] // 16), max(2, size[1] // 16), generator=random)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1) * 255
    return list(smooth.to(torch.uint8))


def targets(count: int, size: tuple[int, int], *, masks: bool = True) -> list[Target]:
    """Four objects in each image, with boxes for outlines."""
    height, width = size
    boxes = torch.tensor(CORNERS) * torch.tensor([width, height, width, height])
    outlines = [Polygons((b[[0, 1, 2, 1, 2, 3, 0, 3]].double().reshape(4, 2).numpy(),)) for b in boxes]
    labels = torch.arange(len(boxes)) % CLASSES
    return [Target(boxes, labels, list(outlines) if masks else None) for _ in range(count)]


def batch(count: int, size: tuple[int, int], machine: Machine, *, masks: bool = True) -> Batch:
    """As a loader gives it."""
    made = Batch(images(count, size), targets(count, size, masks=masks), list(range(count)), [size] * count)
    return made.pin_memory() if machine.cuda else made


def preset(machine: Machine, *changes: str) -> Config:
    """Mask R-CNN of the machine's backbone, with three classes."""
    return machine.preset(f"mask_rcnn_{machine.backbone}_fpn", *changes)


def trainer(
    machine: Machine,
    stage: str,
    given: Batch,
    *changes: str,
    precision: str = "tf32",
    window: int | None = None,
    compiled: bool = False,
    world: World | None = None,
) -> Trainer:
    """A trainer of `stage` that gets `given` in every step; the same weights every time."""
    cut = "null" if window is None else window
    windows = [f"{s}.adversarial.window={cut}" for s in ("pretrain", "extract")]
    config = preset(machine, *windows, *changes)
    solver = SolverConfig(
        iterations=1000, lr=1e-4, milestones=[900], warmup_iterations=0, precision=precision
    )
    recipe = getattr(config, stage).model_copy(update={"solver": solver})
    world = world or World(machine.device)
    torch.manual_seed(0)
    built = fresh_stage(config.model_copy(update={stage: recipe}), stage, world)
    if stage != "finetune":
        _normalise(built.guide)
    if compiled:
        compile_networks(built, machine.device)
    return standing_trainer(built, solver, world, given)


def _normalise(guide: Detector) -> None:
    """Show an image to its batch norms: as they begin, features grow beyond what fp16 holds."""
    norms = [m for m in guide.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            guide.train().pyramid(guide.preprocess(images(1, (128, 160)))[0])


def steps(given: Trainer, count: int) -> list[dict[str, float]]:
    """The losses of each of `count` steps, with float32 multiplied as the trainer's precision says."""
    with float32_products(given.solver.precision):
        for _ in range(count):
            given.step()
            given.iteration += 1
    given.measured.settle(given.iteration)
    rows, given.measured.unlogged = given.measured.unlogged, []
    return [row["losses"] for row in rows]


def timed(machine: Machine, run: Callable[[], object], warm: int = 3) -> dict[str, float]:
    """Median wall and GPU milliseconds of `run`, the spread, and the peak memory in GiB."""
    if machine.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(warm if machine.cuda else 1):
        run()
    machine.wait()
    wall, gpu = [], []
    for _ in range(machine.runs):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if machine.cuda else []
        started = time.perf_counter()
        for event in events[:1]:
            event.record()
        run()
        for event in events[1:]:
            event.record()
        machine.wait()
        wall.append((time.perf_counter() - started) * 1e3)
        gpu += [events[0].elapsed_time(events[1])] if events else []
    found = {"ms": statistics.median(wall), "low": min(wall), "high": max(wall)}
    if machine.cuda:
        found |= {"gpu_ms": statistics.median(gpu), "peak_gib": torch.cuda.max_memory_allocated() / 2**30}
    return found


def launches(machine: Machine, run: Callable[[], object]) -> int | None:
    """Kernels and copies that one `run` starts on the GPU."""
    if not machine.cuda:
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        machine.wait()
    return sum(event.count for event in profile.key_averages())
