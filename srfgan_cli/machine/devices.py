"""What `--devices` means on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from srfgan.models.errors import InputError
from srfgan_cli.screen.console import stderr


@dataclass(frozen=True)
class Devices:
    """The processors of one node.

    Attributes:
        kind: `cuda` or `cpu`.
        count: processes on this node, one per GPU, or CPU processes.
        gpu_ids: the GPUs asked for by number; empty for "the first `count`".
    """

    kind: Literal["cuda", "cpu"]
    count: int
    gpu_ids: tuple[int, ...] = ()

    @property
    def spelled(self) -> str:
        """These processors as `--devices` names them."""
        if self.kind == "cpu":
            return f"cpu:{self.count}"
        ids = self.gpu_ids or tuple(range(self.count))
        return ",".join(str(number) for number in ids) + ","

    def described(self, threads: int | None = None) -> str:
        """What they are, for people.

        Args:
            threads: of each CPU process; None: torch's own number.
        """
        if self.kind == "cuda":
            return f"{self.count} x {torch.cuda.get_device_name(self.device())}"
        threads = threads or torch.get_num_threads()
        processes = "1 process" if self.count == 1 else f"{self.count} processes"
        return f"CPU, {processes} of {threads} {'thread' if threads == 1 else 'threads'}"

    def device(self, local_rank: int = 0) -> torch.device:
        """The device of one of this node's processes.

        Raises:
            InputError: a launcher has started more of them than there are GPUs named.
        """
        if self.kind == "cpu":
            return torch.device("cpu")
        if self.gpu_ids:
            if local_rank >= len(self.gpu_ids):
                raise InputError(
                    f"--devices {self.spelled} names {len(self.gpu_ids)} of this node's GPUs, and this is process "
                    f"{local_rank + 1} there: start no more than it names (srun --ntasks-per-node), or name more."
                )
            return torch.device("cuda", self.gpu_ids[local_rank])
        # A launcher may show each of its processes one GPU only.
        return torch.device("cuda", local_rank % torch.cuda.device_count())


def first_device(text: str, command: str) -> torch.device:
    """The device of a command that runs on one, from `--devices`; says so where more were named.

    Raises:
        InputError: as `parse_devices`.
    """
    devices = parse_devices(text)
    device = devices.device()
    if text != "auto" and devices.count > 1:
        stderr.print(f"--devices {text}: {command} runs on one device, {device}.")
    return device


def parse_devices(text: str) -> Devices:
    """Read `auto`, `cpu`, `cpu:N`, a number of devices, or GPU numbers with a comma (`0,1`; one GPU: `2,`).

    `auto` takes every GPU, or one CPU process where there is none.

    Raises:
        InputError: something else, or GPUs that this machine does not have.
    """
    gpus = torch.cuda.device_count()
    if text == "auto":
        return Devices("cuda", gpus) if gpus else Devices("cpu", 1)
    kind, _, processes = text.partition(":")
    if kind == "cpu" and (text == "cpu" or (processes.isdecimal() and int(processes) > 0)):
        return Devices("cpu", int(processes or 1))
    if text.isdecimal() and int(text) > 0:
        return _count(int(text), gpus)
    if "," in text and all(part.strip().isdecimal() for part in text.split(",") if part.strip()):
        return _numbered(tuple(int(part) for part in text.split(",") if part.strip()), gpus)
    raise InputError(
        f"--devices {text}: expected auto, cpu, cpu:N (N processes), a number of devices (2), or GPU "
        "numbers (0,1; one GPU: 0,)."
    )


def _count(count: int, gpus: int) -> Devices:
    if gpus == 0:
        return Devices("cpu", count)
    if count > gpus:
        raise InputError(f"--devices {count}: this machine has {gpus} GPU(s).")
    return Devices("cuda", count)


def _numbered(ids: tuple[int, ...], gpus: int) -> Devices:
    missing = [number for number in ids if number >= gpus]
    if missing or not ids or len(set(ids)) < len(ids):
        raise InputError(
            f"--devices {','.join(map(str, ids))}: this machine has {gpus} GPU(s), each usable once."
        )
    return Devices("cuda", len(ids), ids)
