"""The load of other processes is seen, and that of this one is not taken for it."""

from __future__ import annotations

import subprocess
import sys
from os import sysconf
from pathlib import Path
from time import perf_counter, process_time

import pytest

from edge_bench.timing.background import Background


def spin(seconds: float) -> None:
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


def test_a_busy_neighbour_is_counted() -> None:
    program = "print('busy', flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as neighbour:
        assert neighbour.stdout is not None
        neighbour.stdout.readline()
        with Background() as background:
            spin(0.6)
        neighbour.kill()
    # It has a core of its own, or half of one that it shares with this process.
    assert background.cores is not None
    assert background.cores > 0.3


def test_this_process_is_no_neighbour_of_its_own() -> None:
    def busy() -> float:
        """CPU seconds of the whole machine, as the kernel tells them: user, nice, system, ..."""
        with Path("/proc/stat").open(encoding="ascii") as file:
            user, nice, system, _, _, *interrupts = map(int, file.readline().split()[1:8])
        return sum((user, nice, system, *interrupts)) / sysconf("SC_CLK_TCK")

    everybody, ours, begin = busy(), process_time(), perf_counter()
    with Background() as background:
        spin(0.25)
    span = perf_counter() - begin
    others = (busy() - everybody - (process_time() - ours)) / span
    assert background.cores == pytest.approx(max(others, 0), abs=0.3)


def test_a_time_too_short_for_the_kernel_s_steps_tells_nothing() -> None:
    with Background() as background:
        spin(0.01)
    assert background.cores is None
