"""Timing that holds on a machine whose speed drifts: the contestants take turns, ratios are taken turn by turn."""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import torch

from srfgan_cli.machine.precision import autocast, float32_products
from srfgan_cli.presets.config import Precision


def add_machine(parser: argparse.ArgumentParser) -> None:
    """The options that say where the contestants run, and how they compute."""
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--precision", default="fp32", choices=get_args(Precision))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of a CPU")


def describe_machine(arguments: argparse.Namespace) -> str:
    """What a table was measured on."""
    cuda = arguments.device != "cpu"
    where = torch.cuda.get_device_name() if cuda else f"{processor()}, {arguments.threads} threads"
    return f"torch {torch.__version__}, {where}, {arguments.precision}"


def processor() -> str:
    """The CPU's name (Linux)."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "a CPU")


@contextmanager
def computing(arguments: argparse.Namespace) -> Iterator[None]:
    """Networks compute as the options say."""
    torch.set_num_threads(arguments.threads)
    precision = arguments.precision
    with float32_products(precision), autocast(torch.device(arguments.device), precision):
        yield


def take_turns(
    contestants: dict[str, Callable[[], object]],
    turns: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each contestant's runs by the `clock`, one run each per turn, after some that are not counted.

    A run has ended when the `device` has: a GPU's host only asks for it.
    """
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    for run in contestants.values():
        for _ in range(1 if device == "cpu" else 3):
            run()
        wait()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns):
        order = list(contestants) if turn % 2 == 0 else list(reversed(contestants))
        for name in order:
            started = clock()
            contestants[name]()
            wait()
            seconds[name].append(clock() - started)
    return seconds


def ratios(seconds: dict[str, list[float]], name: str, baseline: str) -> list[float]:
    """A contestant's times, of the baseline's of the same turn."""
    return [own / other for own, other in zip(seconds[name], seconds[baseline], strict=True)]


def report(title: str, seconds: dict[str, list[float]], baseline: str) -> None:
    """Median milliseconds of each contestant, and its median ratio to the baseline of the same turn."""
    print(f"{title} (median of {len(seconds[baseline])} turns)")
    for name, times in seconds.items():
        found = ratios(seconds, name, baseline)
        spread = f"{min(found):.2f} to {max(found):.2f}"
        print(
            f"  {name:28} {statistics.median(times) * 1000:9.0f} ms   "
            f"{statistics.median(found):.2f} of {baseline} ({spread})"
        )


def user_cpu() -> float:
    """Seconds of user CPU time so far: a clock that other processes' load changes less than the wall's."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def cpu_seconds(run: Callable[[], object]) -> float:
    """User CPU time of one call."""
    before = user_cpu()
    run()
    return user_cpu() - before


def peak_memory(script: str, *arguments: str) -> float:
    """Peak resident memory in MiB of `python script --peak-of ...` as a process of its own."""
    done = subprocess.run(
        [sys.executable, script, "--peak-of", *arguments], check=True, capture_output=True, text=True
    )
    return float(done.stdout.strip().splitlines()[-1])


def own_peak() -> float:
    """This process's peak resident memory so far, MiB (Linux; `ru_maxrss` would count the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
