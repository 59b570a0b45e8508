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

# Activations of 32 MiB, ten steps.
ATTACK = """
import resource
import torch
from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
network = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
    torch.nn.Linear(8 * 32 * 32, 4),
).eval().requires_grad_(False)
images, labels = torch.rand(1024, 3, 32, 32), torch.zeros(1024, dtype=torch.long)
def attack():
    run_attack(network, images, labels, parse_attack("pgd10", epsilon=0.1), 0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = attack()
print(attack() - before)
"""


def printed(script: str, *arguments: str) -> list[int]:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def measured(what: str) -> tuple[bool, int]:
    kept, faults = printed(FAULTS, what)
    return bool(kept), faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's business")
def test_memory_is_faulted_in_once() -> None:
    kept, faults = measured("keep")
    assert kept
    assert faults < 100
    # Of 4 KiB or, where the system has them, of 2 MiB each.
    assert measured("give back")[1] > max(100, 10 * faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's business")
def test_an_attack_faults_its_memory_in_once() -> None:
    (faults,) = printed(ATTACK)
    # Nearly a million where freed memory is given back.
    assert faults < 100_000
