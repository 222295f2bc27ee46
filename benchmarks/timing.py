"""Timing that holds on a machine whose speed drifts: the contestants take turns, ratios are taken turn by turn."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def take_turns(contestants: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of each contestant's runs, one run each per turn, after one run each that is not counted."""
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns):
        order = list(contestants) if turn % 2 == 0 else list(reversed(contestants))
        for name in order:
            started = time.perf_counter()
            contestants[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def report(title: str, seconds: dict[str, list[float]], baseline: str) -> None:
    """Median milliseconds of each contestant, and its median ratio to the baseline of the same turn."""
    print(f"{title} (median of {len(seconds[baseline])} turns)")
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds[baseline], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"  {name:28} {statistics.median(times) * 1000:9.0f} ms   "
            f"{statistics.median(ratios):.2f} of {baseline} ({spread})"
        )


def cpu_seconds(run: Callable[[], object]) -> float:
    """User CPU time of one call, which other processes' load changes less than the clock's."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime - before


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
