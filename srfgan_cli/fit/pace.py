"""How long the demo may be on this machine, measured before it starts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from srfgan.models import build_detector
from srfgan.models.errors import InputError
from srfgan_cli.data.open import open_split
from srfgan_cli.machine.devices import Devices, parse_devices
from srfgan_cli.presets import load_preset

BUDGET = 360.0
"""Seconds that the demo shall take."""
WHOLE, FIXED = 3300.0, 400.0
"""What its trainings at full length and all that no schedule shortens (starting, scoring, drawing) cost, in steps."""
SHORTEST = 0.1
"""A shorter training shows nothing."""
_STEPS, _IMAGES = 5, 4


def one_device(text: str) -> Devices:
    """Read `--devices`; `auto` takes the first GPU, or the CPU.

    Raises:
        InputError: more than one device, or none that this machine has.
    """
    devices = parse_devices(text)
    if text == "auto":
        return Devices(devices.kind, 1, devices.gpu_ids[:1])
    if devices.count > 1:
        raise InputError(f"--devices {text}: the demo runs on one device; use auto, cpu or one GPU (0,).")
    return devices


def demo_scale(devices: Devices) -> float:
    """The factor on the demo's schedules with which it takes `BUDGET` seconds here, at most 1.

    Args:
        devices: one processor; a GPU is fast enough for the whole.
    """
    if devices.kind == "cuda":
        return 1.0
    step = _seconds_per_step()
    return round(min(1.0, max(SHORTEST, (BUDGET / step - FIXED) / WHOLE)), 3)


def _seconds_per_step() -> float:
    """Median seconds of a training step of the plain detector, on one CPU thread."""
    config = load_preset("demo_nn")
    train = open_split(config.data, None, "train", training=True)
    samples = [train[(number, 0)] for number in range(_IMAGES)]
    images, targets = [sample.image for sample in samples], [sample.target for sample in samples]
    seconds = []
    with _one_thread(), torch.random.fork_rng():
        detector = build_detector(config.model).train()
        for _ in range(_STEPS + 1):
            started = time.perf_counter()
            sum(detector(images, targets).values()).backward()
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
