"""Rivals by turns: a busy moment slows them alike."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def by_turns(rivals: Mapping[str, Callable[[], T]], turns: int) -> dict[str, list[T]]:
    """What each rival gave in each turn; who begins changes from turn to turn."""
    names = list(rivals)
    found: dict[str, list[T]] = {name: [] for name in names}
    for turn in range(turns):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(rivals[name]())
    return found


def seconds(work: Callable[[], object]) -> Callable[[], float]:
    """A call that gives how long `work` takes."""

    def timed() -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return timed


def seconds_a_call(work: Callable[[], object], least: float) -> Callable[[], float]:
    """A call that gives the median of as many calls of `work` as `least` seconds take."""

    def timed() -> float:
        took: list[float] = []
        end = time.perf_counter() + least
        while not took or time.perf_counter() < end:
            begin = time.perf_counter()
            work()
            took.append(time.perf_counter() - begin)
        return sorted(took)[len(took) // 2]

    return timed


def command(
    arguments: list[str], folder: Path, codes: tuple[int, ...] = (0,)
) -> tuple[float, float]:
    """Seconds and largest resident MiB of a process.

    Raises:
        RuntimeError: it ended with another code than one of `codes`, or in a traceback.
    """
    with tempfile.TemporaryFile() as said:
        begin = time.perf_counter()
        process = subprocess.Popen(arguments, cwd=folder, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    if process.returncode not in codes or "Traceback" in text:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {text[-300:]}")
    return took, used.ru_maxrss / 1024


def python(*arguments: str) -> list[str]:
    """A command of this environment's Python."""
    return [sys.executable, *arguments]
