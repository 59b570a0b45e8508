"""People are told where other processes hold up torch's threads, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from time import perf_counter

import pytest
import torch

from ard.commands import started
from ard.commands.cores import THREADS, doubt_about_cores
from ard.commands.flags import resolve_torch_device

CORES = os.cpu_count() or 1
BUSY = "print('busy', flush=True)\nwhile True: pass"


@pytest.mark.parametrize(
    ("cores", "threads", "others", "advised"),
    [
        (2, 2, 1.4, 1),
        (2, 2, 0.5, 1),
        (4, 4, 1.0, 3),
        (4, 2, 3.0, 1),
        (8, 8, 20.0, 1),
        (64, 64, 8.0, 56),
    ],
)
def test_it_says_how_many_threads_have_a_core(
    cores: int, threads: int, others: float, advised: int
) -> None:
    found = doubt_about_cores(cores, threads, others)
    assert found is not None
    assert found.startswith(f"other processes keep {others} of {cores} cores busy, and {threads} ")
    assert found.endswith(f"set OMP_NUM_THREADS={advised}")


@pytest.mark.parametrize(
    ("cores", "threads", "others"),
    [(2, 2, 0.3), (2, 1, 2.0), (4, 2, 2.0), (8, 8, 0.9), (16, 8, 8.0), (64, 64, 7.0), (1, 1, 3.0)],
)
def test_it_says_nothing_where_each_thread_has_its_core(
    cores: int, threads: int, others: float
) -> None:
    assert doubt_about_cores(cores, threads, others) is None


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As many busy neighbours as there are cores, since a command began; a thread for each core."""
    if CORES == 1 or len(os.sched_getaffinity(0)) < CORES:
        pytest.skip("this process has one core, or not all of them")
    monkeypatch.setattr(started, "_begun", [])
    monkeypatch.setattr(started, "_beside", [])
    threads = torch.get_num_threads()
    torch.set_num_threads(CORES)
    command = [sys.executable, "-c", BUSY]
    neighbours = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(CORES)]
    try:
        for each in neighbours:
            assert each.stdout is not None
            each.stdout.readline()
        started.note_start()
        end = perf_counter() + 0.6
        while perf_counter() < end:
            pass
        yield
    finally:
        for each in neighbours:
            each.kill()
            each.communicate()
        torch.set_num_threads(threads)


@pytest.mark.usefixtures("crowded")
def test_who_computes_beside_busy_processes_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(THREADS, raising=False)
    assert resolve_torch_device("cpu") == "cpu"
    told = capsys.readouterr().err
    assert told.startswith("warning: other processes keep ")
    assert "OMP_NUM_THREADS=" in told
    # Who chose the threads knows of them.
    monkeypatch.setenv(THREADS, str(CORES))
    resolve_torch_device("cpu")
    assert capsys.readouterr().err == ""


def test_within_another_program_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(started, "_beside", [])
    assert started.busy_beside() is None
