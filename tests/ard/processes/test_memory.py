"""What is freed stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Each in a process of its own, forked from one that has imported everything and computed nothing.
# 32 MiB a time, every page of it written; activations of 32 MiB, ten steps.
PROBES = """
import os, resource, sys
import torch
from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.processes.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def of_tensors():
    for _ in range(20):
        torch.ones(8 << 20)
    before = faults()
    for _ in range(10):
        torch.ones(8 << 20)
    return faults() - before

def kept():
    return of_tensors() if keep_freed_memory() else -1

def attacked():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(8 * 32 * 32, 4),
    ).eval().requires_grad_(False)
    images, labels = torch.rand(1024, 3, 32, 32), torch.zeros(1024, dtype=torch.long)
    spec = parse_attack("pgd10", epsilon=0.1)
    run_attack(network, images, labels, spec, 0)
    before = faults()
    run_attack(network, images, labels, spec, 0)
    return faults() - before

for probe in (of_tensors, kept, attacked):
    if os.fork() == 0:
        print(probe(), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's business")
def test_memory_is_faulted_in_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBES], capture_output=True, text=True, check=True
    )
    given_back, kept, attacked = (int(line) for line in done.stdout.split())
    assert 0 <= kept < 100
    # Of 4 KiB or, where the system has them, of 2 MiB each.
    assert given_back > max(100, 10 * kept)
    # Nearly a million where freed memory is given back.
    assert attacked < 100_000
