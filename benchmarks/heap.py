"""What keeping freed memory saves on a CPU: CPU-seconds and page faults with it and without, process by process.

    python benchmarks/heap.py [--turns 3] [--threads N]

Mask R-CNN R-50-FPN: inference on an image of 800x1216 pixels, and steps of the three stages on one of 480x640.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable

import torch
from gpu_cases import CLASSES, Machine, batch, images
from rich.console import Console
from rich.table import Table
from timing import own_peak, processor

from srfgan.models import build_detector
from srfgan_cli.machine.distributed import World
from srfgan_cli.machine.heap import keep_freed_memory
from srfgan_cli.presets import load_preset
from srfgan_cli.training.fresh import fresh_stage, standing_trainer

CASES = ("inference nn", "inference srf", "finetune nn", "finetune srf", "pretrain srf", "extract srf")
COUNTED = 4
"""Runs of each process, after one that is not counted."""


def runs_of(case: str) -> Callable[[], object]:
    """What a case does again and again."""
    stage, upsampler = case.split()
    torch.manual_seed(0)
    config = load_preset(
        "mask_rcnn_r50_fpn", [f"model.neck.upsampler={upsampler}", f"model.num_classes={CLASSES}"]
    )
    if stage == "inference":
        detector, shown = build_detector(config.model).eval(), images(1, (800, 1216))
        return torch.inference_mode()(lambda: detector.detect(shown))
    world = World(torch.device("cpu"))
    given = batch(1, (480, 640), Machine(world.device))
    solver = getattr(config, stage).solver
    return standing_trainer(fresh_stage(config, stage, world), solver, world, given).step


def measured(case: str) -> tuple[float, int, float]:
    """CPU-seconds and page faults of a run, the least of those counted, and the process's peak of memory in MiB."""
    run, found = runs_of(case), []
    run()
    for _ in range(COUNTED):
        before = resource.getrusage(resource.RUSAGE_SELF)
        run()
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append((spent, after.ru_minflt - before.ru_minflt))
    seconds, faults = (min(several) for several in zip(*found, strict=True))
    return seconds, faults, own_peak()


def main() -> None:
    """Print a row for each case; the processes of a turn run one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.one:
        case, how = given.one
        if how == "kept":
            keep_freed_memory()
        print(json.dumps(measured(case)))
        return
    columns = ("", "CPU-s", "kept: CPU-s", "of those without", "page faults", "kept", "peak MiB", "kept")
    table = Table(*columns, title=f"{processor()}, {given.threads} threads")
    for case in given.cases.split(","):
        found: dict[str, list[list[float]]] = {"free": [], "kept": []}
        for _ in range(given.turns):
            for how, several in found.items():
                several.append(_alone(case, how, given.threads))
        ratios = [kept[0] / free[0] for free, kept in zip(found["free"], found["kept"], strict=True)]
        (free, faults, peak), (kept, fewer, higher) = (
            [statistics.median(values) for values in zip(*found[how], strict=True)]
            for how in ("free", "kept")
        )
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        numbers = (f"{free:.2f}", f"{kept:.2f}", ratio, *(f"{n:,.0f}" for n in (faults, fewer, peak, higher)))
        table.add_row(case, *numbers)
    Console(width=120).print(table)


def _alone(case: str, how: str, threads: int) -> list[float]:
    """`measured` in a process of its own."""
    command = [sys.executable, __file__, "--threads", str(threads), "--one", case, how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    numbers: list[float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


if __name__ == "__main__":
    main()
