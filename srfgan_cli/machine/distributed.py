"""One process's place among the processes of a run, and what they agree on."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import TCPStore
from torch.nn.parallel import DistributedDataParallel

from srfgan_cli.machine.devices import Devices
from srfgan_cli.machine.heap import keep_freed_memory
from srfgan_cli.machine.interrupt import Interrupted

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""How long processes wait for one that is alive but busy (the main one scores and checks the data alone), or whose
node is gone without a word; a process that dies is noticed at once."""
ANSWER = 3
"""Seconds within which a process that has lost another says so to the rest."""


class LostProcess(Exception):  # noqa: N818 - named for what happened
    """Another process of the run has ended, so that this one cannot go on."""


@dataclass(frozen=True)
class World:
    """This process among all.

    Attributes:
        device: where its tensors live.
        rank: 0..size-1, over all nodes.
        size: number of processes.
        control: gloo group for host-side agreement, so that a GPU never has to wait for it; None alone.
        sync_bn: batch norms of trained modules take their statistics over all processes' batches.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    control: Any = None
    sync_bn: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process prints, logs and writes."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set on any process; every process must call it."""
        if self.size == 1:
            return flag
        value = torch.tensor([int(flag)])
        dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self.control)
        return bool(value.item())

    def gather(self, value: Any) -> list[Any]:
        """Every process's `value`, in rank order, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier(group=self.control)

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the main one's batch-norm statistics, which are those that are saved."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def place(self, network: nn.Module) -> nn.Module:
        """`network`, of convolutions, on the device; on a GPU in the layout of feature maps, channels last."""
        if self.device.type != "cuda":
            return network.to(self.device)
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def parallel(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over all processes at every backward.

        With `sync_bn`, its batch norms are replaced in place by synchronised ones of the same parameters, buffers
        and names; torch has those for GPUs only.
        """
        if self.size == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        if self.sync_bn and self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(module)
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        _as_gradients_come(module)
        return DistributedDataParallel(module, device_ids=device_ids)


def _as_gradients_come(module: nn.Module) -> None:
    """Gives 1x1 convolutions' weights the strides of channels last.

    They have one layout and two ways to write its strides. Gradients of maps with channels last come in the second, and
    DDP, whose buffers follow the weights, would copy and warn.
    """
    for weight in module.parameters():
        if weight.dim() == 4 and weight.shape[2:] == (1, 1):
            inputs = weight.shape[1]
            weight.data = weight.data.as_strided(weight.shape, (inputs, 1, inputs, inputs))


@contextmanager
def open_world(devices: Devices, sync_bn: bool = False) -> Iterator[World]:
    """Join the run's other processes (as the launcher's variables say), and leave them at the end.

    A process on a CPU keeps the memory that it frees (`keep_freed_memory`), afterwards too.

    Args:
        devices: this node's.
        sync_bn: as `World.sync_bn`.

    Raises:
        InputError: as `Devices.device`.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    device = devices.device(int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
    if size == 1:
        yield World(device)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    control = dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT)
    world = World(device, dist.get_rank(), size, control, sync_bn)
    nodes = world.gather(socket.gethostname())
    try:
        yield world
    except Interrupted:
        dist.destroy_process_group()
        raise
    except RuntimeError as error:
        if not _is_of_communication(error):
            raise
        raise LostProcess(_who_is_lost(world, nodes)) from error
    # After an error the others may wait in a collective, and leaving in order would wait for them.
    dist.destroy_process_group()


def _is_of_communication(error: RuntimeError) -> bool:
    # gloo's are plain RuntimeErrors, told by their text alone.
    return isinstance(error, dist.DistError) or any(name in str(error).lower() for name in ("gloo", "nccl"))


def _who_is_lost(world: World, nodes: list[str]) -> str:
    """Names the processes that do not say, as this one and all others that live do, that they have lost one.

    Args:
        nodes: each process's, by rank.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=2 * ANSWER))
        store.set(f"srfgan/alive/{world.rank}", "")
        time.sleep(ANSWER)
        silent = [rank for rank in range(world.size) if not store.check([f"srfgan/alive/{rank}"])]
    except RuntimeError:
        return f"no answer from process 0 on node {nodes[0]} and its launcher. What was said there tells why."
    if not silent:
        return "the connection between the processes broke. All of them are alive: look at the network."
    names = ", ".join(f"process {rank} on node {nodes[rank]}" for rank in silent)
    return f"no answer from {names}. What was said there tells why."
