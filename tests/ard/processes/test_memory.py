"""What is freed stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# 32 MiB a time, every page of it written.
FAULTS = """
import resource, sys
import torch
from ard.processes.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(8 << 20)
before = faults()
for _ in range(10):
    torch.ones(8 << 20)
print(int(kept), faults() - before)
"""


def measured(what: str) -> tuple[bool, int]:
    command = [sys.executable, "-c", FAULTS, what]
    kept, faults = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.split()
    return bool(int(kept)), int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's business")
def test_memory_is_faulted_in_once() -> None:
    kept, faults = measured("keep")
    assert kept
    assert faults < 100
    # Of 4 KiB or, where the system has them, of 2 MiB each.
    assert measured("give back")[1] > max(100, 10 * faults)
