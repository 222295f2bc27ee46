"""Memory that is freed is kept for what comes next: `srfgan_cli.machine.heap`, and who asks for it."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")

AGAIN = """
import resource
from contextlib import nullcontext

import torch

from srfgan_cli.machine.devices import parse_devices
from srfgan_cli.machine.distributed import open_world

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use(times):
    for _ in range(times):
        torch.ones(64, 2**18)

with {world}:
    use(20)  # malloc's small remainders keep some of the first blocks apart
    before = faults()
    use(5)
    print(faults() - before)
"""


@pytest.mark.parametrize(
    ("world", "kept"), [("open_world(parse_devices('cpu'))", True), ("nullcontext()", False)]
)
def test_what_runs_on_a_cpu_gets_its_freed_memory_again(world, kept):
    """A block of 64 MiB is 16,384 pages."""
    done = subprocess.run(
        [sys.executable, "-c", AGAIN.format(world=world)], check=True, capture_output=True, text=True
    )
    assert (int(done.stdout) < 100) == kept
