"""Starting the processes of a distributed run: torchrun (embedded) and SLURM.

A command calls `launch` first. It returns where this process should do the work itself, and otherwise
starts the processes, waits for them, and gives their exit code.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from srfgan.models.errors import InputError
from srfgan_cli.screen.options import LauncherName

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from srfgan_cli.machine.devices import Devices

INTERRUPTED = 130
FAREWELL = 10
"""Seconds that a launcher whose process has failed stays, so that the other nodes can say who is missing."""
_TO_SAVE = 600
"""Seconds that torchrun leaves its processes to end after a signal, where it can be told (torch 2.11 cannot). Its own
30 are not enough for a long step of several passes, after which they save; another Ctrl-C ends them at once."""


def launch(
    devices: Devices,
    launcher: LauncherName,
    nnodes: int = 1,
    rendezvous: str | None = None,
    max_restarts: int = 0,
) -> int | None:
    """Start the processes that a run needs.

    Args:
        devices: this node's processors.
        launcher: `auto` picks `slurm` inside an `srun` step of several tasks, `torchrun` for several
            devices or nodes or for restarts, and `none` otherwise.
        nnodes: number of nodes (torchrun).
        rendezvous: `HOST:PORT` of the first node, needed for several nodes.
        max_restarts: how often all processes are started again after one has died (torchrun).

    Returns:
        The exit code of the processes, or None where this process is to do the work.

    Raises:
        InputError: a launcher that cannot work here.
    """
    if is_worker():
        _check_variables()
        return None
    chosen = _choose(devices, launcher, nnodes, max_restarts)
    if chosen == "slurm":
        os.environ.update(slurm_environment(os.environ))
        return None
    if chosen == "torchrun":
        return _torchrun(devices, nnodes, rendezvous, max_restarts)
    _check_variables()
    return None


def _check_variables() -> None:
    """Whether the variables of one of several processes, where there are some, are all there.

    Raises:
        InputError: they are not, as where a container or an earlier job has left some.
    """
    advice = "Unset it, or start the run with --launcher torchrun or slurm, which set all of them."
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        text = os.environ.get(name, "0")
        if not text.isdecimal():
            raise InputError(f"The environment variable {name} is {text!r}, which is no number. {advice}")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if size > 1 and missing:
        raise InputError(
            f"The environment variable WORLD_SIZE is {size}, as in one of so many processes, but there is no "
            f"{', '.join(missing)}. {advice}"
        )


def is_worker() -> bool:
    """Whether a launcher has already given this process its rank."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def slurm_environment(environ: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """torch.distributed's variables from those that `srun` sets for a task.

    Raises:
        InputError: the variables of an `srun` step are missing.
    """
    missing = [name for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID") if name not in environ]
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST")
    if missing or not nodes:
        raise InputError(
            f"--launcher slurm: {', '.join(missing) or 'SLURM_JOB_NODELIST'} is not set. "
            "Start the command with srun inside a job: srun srfgan ... --launcher slurm"
        )
    port = 20_000 + int(environ.get("SLURM_JOB_ID", "0")) % 20_000
    return {
        "RANK": environ["SLURM_PROCID"],
        "WORLD_SIZE": environ["SLURM_NTASKS"],
        "LOCAL_RANK": environ["SLURM_LOCALID"],
        "MASTER_ADDR": environ.get("MASTER_ADDR") or _first_host(nodes),
        "MASTER_PORT": environ.get("MASTER_PORT") or str(port),
    }


def _first_host(nodelist: str) -> str:
    """The first host of a SLURM node list: `gpu[03-05,9],cpu1` -> `gpu03`."""
    match = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodelist)
    if not match:
        raise InputError(f"SLURM's node list '{nodelist}' is not understood; set MASTER_ADDR yourself.")
    head, number, tail = match.groups()
    return head + (number or "") + (tail or "")


def _choose(devices: Devices, launcher: LauncherName, nnodes: int, max_restarts: int) -> LauncherName:
    in_srun = "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1
    several = devices.count > 1 or nnodes > 1
    if launcher == "auto":
        launcher = "slurm" if in_srun else "torchrun" if several or max_restarts else "none"
    if max_restarts and launcher != "torchrun":
        raise InputError(
            f"--max-restarts is for runs that torchrun starts, not for --launcher {launcher}. Under SLURM, let the job "
            "be requeued and continue with --auto-resume."
        )
    if launcher == "none" and several:
        raise InputError(
            f"--launcher none starts one process, but {devices.count} device(s) on {nnodes} node(s) were asked "
            "for. Use --launcher torchrun, or --devices 1."
        )
    return launcher


def _torchrun(devices: Devices, nnodes: int, rendezvous: str | None, max_restarts: int) -> int:
    if nnodes > 1 and not rendezvous:
        raise InputError(
            f"--nnodes {nnodes}: name the first node with --rdzv-endpoint HOST:PORT (the same on every node)."
        )
    if rendezvous:
        _check_rendezvous(rendezvous)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.run import get_args_parser, run

    # A worker has already said what went wrong; torchrun's own report of it would bury that. Of one that is started
    # again after it was killed, torchrun alone says so, in one line.
    level = logging.ERROR if max_restarts else logging.CRITICAL
    logging.getLogger("torch.distributed.elastic").setLevel(level)
    _prepare_environment(devices)
    if max_restarts:
        # Otherwise the agents' store would hand the addresses of dead processes to those started after them.
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    where = ["--rdzv-backend=c10d", f"--rdzv-endpoint={rendezvous}"] if rendezvous else ["--standalone"]
    # -P keeps the current folder off the workers' path: it may hold modules of any name.
    command = [sys.executable, "-P", "-m", "srfgan_cli", *sys.argv[1:]]
    count = [f"--nnodes={nnodes}", f"--nproc-per-node={devices.count}", f"--max-restarts={max_restarts}"]
    arguments = [*count, *where, "--no-python", *command]
    try:
        run(get_args_parser().parse_args(arguments))
    except ChildFailedError as error:
        code = _exit_code(error)
        if nnodes > 1 and code == 1:
            time.sleep(FAREWELL)  # this launcher may keep what the other nodes' processes find each other by
        return code
    except RendezvousError:
        print("srfgan: the launcher on another node has ended; what it said tells why.", file=sys.stderr)
        return 1
    except (SignalException, KeyboardInterrupt):
        return INTERRUPTED
    return 0


def _check_rendezvous(endpoint: str) -> None:
    """Whether there is such a place, which torchrun asks for minutes before it says so; the port may be its own.

    Raises:
        InputError: it cannot be one.
    """
    host, colon, port = endpoint.rpartition(":")
    if not colon:
        host, port = endpoint, "29400"
    if not host or not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise InputError(f"--rdzv-endpoint {endpoint}: must be HOST:PORT, with a port from 1 to 65535.")
    try:
        socket.getaddrinfo(host.strip("[]"), int(port))
    except (OSError, UnicodeError) as error:
        raise InputError(f"--rdzv-endpoint {endpoint}: there is no such host ({error}).") from None


def _prepare_environment(devices: Devices) -> None:
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_TO_SAVE))
    if devices.kind == "cpu":
        # torchrun would give each process one thread; share the cores instead.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices.count)))


def _exit_code(error: ChildFailedError) -> int:
    """The first failed process's own code; a signal counts as a failure while running."""
    rank, first = error.get_first_failure()
    code = first.exitcode
    why = f"ended with exit code {code}"
    if code < 0:
        why = f"was ended by {signal.Signals(-code).name}"
    if code == -signal.SIGKILL:
        why += ", as the system does where memory runs out"
    print(f"srfgan: process {rank} on node {socket.gethostname()} {why}.", file=sys.stderr)
    return code if code in (2, INTERRUPTED) else 1
