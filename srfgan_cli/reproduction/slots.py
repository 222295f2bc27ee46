"""One machine's devices dealt out to several runs at a time."""

from __future__ import annotations

import os
from dataclasses import replace

from srfgan.models.errors import InputError
from srfgan_cli.machine.devices import Devices, parse_devices
from srfgan_cli.reproduction.jobs import Machine


def deal_out(machine: Machine, runs: int) -> list[Machine]:
    """A machine's share for each of the runs that are at work at a time.

    Every run gets as many devices, or every device as many runs: 8 GPUs serve 2, 4, 8 or 16 runs. CPU runs get their
    share of the cores as threads.

    Raises:
        InputError: the devices cannot be dealt out evenly, or SLURM has them.
    """
    if runs == 1:
        return [machine]
    if machine.prefix:
        raise InputError(
            "--jobs: a SLURM allocation runs one job at a time. Leave out --jobs or --launcher slurm."
        )
    devices = parse_devices(machine.devices)
    if devices.count % runs and runs % devices.count:
        raise InputError(
            f"--jobs {runs}: {devices.count} devices cannot be dealt out evenly; choose a divisor or a multiple."
        )
    share = max(1, devices.count // runs)
    threads = max(1, (os.cpu_count() or 1) // (runs * share)) if devices.kind == "cpu" else None
    return [replace(machine, devices=_named(devices, slot, share), threads=threads) for slot in range(runs)]


def _named(devices: Devices, slot: int, share: int) -> str:
    """The `share` devices of a slot, as `--devices` names them."""
    ids = devices.gpu_ids or tuple(range(devices.count))
    first = slot * share % devices.count
    return replace(devices, count=share, gpu_ids=ids[first : first + share]).spelled
