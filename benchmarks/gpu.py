"""The project on a GPU: is it right, where does it wait, how fast is it, how much memory does it take.

    python benchmarks/gpu.py --out FILE.json [--only BLOCK,...] [--smoke]

About eight minutes on an H100; `--smoke` runs all of it, small, on a CPU. FILE is written whenever something is found,
so that what was measured stays when the time is over, and a block that fails leaves its traceback there. Compare times
of one run only: machines differ.
"""

import argparse
import json
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpu_parity
import gpu_right
import gpu_speed
import torch
import torchvision
from gpu_cases import Item, Machine
from rich.console import Console
from rich.table import Table

BLOCKS: dict[str, Callable[[Machine], Iterator[Item]]] = {
    "detectors": gpu_right.detectors,
    "recorded": gpu_right.recorded,
    "waits": gpu_speed.waits,
    "inference": gpu_speed.inference,
    "evaluation": gpu_speed.evaluation,
    "training": gpu_speed.training,
    "precision": gpu_right.precision,
    "resume": gpu_right.resume,
    "ddp": gpu_right.ddp,
    "parity": gpu_parity.parity,
    "commands": gpu_right.commands,
    "loading": gpu_speed.loading,
    "compiling": gpu_speed.compiling,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(BLOCKS), help=f"some of {', '.join(BLOCKS)}")
    parser.add_argument("--smoke", action="store_true", help="small, on the CPU")
    parser.add_argument("--runs", type=int, default=12, help="how often something is timed")
    parser.add_argument("--cases", default="", help="of parity, those of tests/parity/data to compare")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(BLOCKS):
        parser.error(f"no such block: {', '.join(sorted(unknown))}")
    cases = tuple(name for name in arguments.cases.split(",") if name)
    machine = Machine(torch.device("cpu"), (96, 128), "r18", 1, cases)
    if not arguments.smoke:
        machine = Machine(torch.device("cuda", 0), runs=arguments.runs, cases=cases)
    result: dict[str, object] = {
        "device": torch.cuda.get_device_name() if machine.cuda else "cpu",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    failures = [_run(name, machine, result, arguments.out) for name in chosen]
    if any(failures):
        raise SystemExit(1)


def _run(name: str, machine: Machine, result: dict[str, object], path: Path) -> bool:
    """Add a block's items to `result` and the file as they come; whether it failed."""
    started = time.perf_counter()
    found: dict[str, object] = {}
    block: dict[str, object] = {"found": found}
    result[name] = block

    def write() -> None:
        block["seconds"] = round(time.perf_counter() - started, 1)
        path.write_text(json.dumps(result, indent=1, default=str) + "\n")

    try:
        for key, value in BLOCKS[name](machine):
            found[key] = value
            write()
    except Exception:
        block["failed"] = traceback.format_exc()
    write()
    _show(name, block)
    return "failed" in block


def _show(name: str, block: dict[str, Any]) -> None:
    console = Console(width=150)
    table = Table(title=f"{name} ({block['seconds']:.0f} s)", show_header=False, title_justify="left")
    for key, value in block["found"].items():
        table.add_row(key, _text(value))
    console.print(table)
    if "failed" in block:
        console.print(f"{name} failed\n{block['failed']}", markup=False)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return str(value)


if __name__ == "__main__":
    main()
