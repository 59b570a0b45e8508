"""How costs grow with images, classes, processes and boards: python -m benchmarks.scale.run

Each case is a process of its own, or two below torchrun, which does it --times times; a line of
docs/results/scale.jsonl holds all of them. What has a line is not run again; see `case` for what is
measured, and `report` for the page.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import command
from benchmarks.lines import RESULTS, append, commit, finished, machine

LINES = RESULTS / "scale.jsonl"
IMAGES = (100, 316, 1000, 3162, 10_000)
CLASSES = (10, 32, 100, 316, 1000)
PROCESSES = (1, 2, 4)
HOSTS = (1, 4, 16, 64)
SHARED = 2000

Case = tuple[str, int, int]
"""What, its size, and the number of processes."""

CASES: tuple[Case, ...] = (
    *(("evaluate", size, 1) for size in IMAGES),
    *(("attack", size, 1) for size in IMAGES),
    *(("ranking", size, 1) for size in CLASSES),
    *(("passes", size, 1) for size in (0, 1)),
    *(("evaluate", SHARED, processes) for processes in PROCESSES),
    *(("attack", SHARED, processes) for processes in PROCESSES),
    *(("step", size, processes) for size in (10, 1000) for processes in PROCESSES),
    *(("hosts", count, 1) for count in HOSTS),
)


def name_of(case: Case) -> str:
    """The identifier of its line."""
    what, size, processes = case
    return f"{what} {size} by {processes}"


def seconds_of(what: str) -> str:
    """Which seconds count: by the clock where others than processes of ours do the work."""
    return "clock_s" if what == "hosts" else "cpu_s"


def done(case: Case, times: int) -> dict[str, Any]:
    """Run a case."""
    what, size, processes = case
    command = [sys.executable, "-m", "benchmarks.scale.case", what, str(size), str(times)]
    if what == "hosts":
        command[2:4] = ["benchmarks.scale.hosts"]
    if processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        command[1:2] = [*torchrun, "--nproc-per-node", str(processes), "-m"]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main(
    lines: Annotated[Path, typer.Option(help="File of lines.")] = LINES,
    times: Annotated[int, typer.Option(help="Of each case.", min=1)] = 3,
    only: Annotated[str, typer.Option(help="Cases that begin so.")] = "",
) -> None:
    """Run what has no line yet."""
    torch.set_num_threads(1)  # As each process has, so that the line says so.
    for case in CASES:
        if not name_of(case).startswith(only) or name_of(case) in finished(lines):
            continue
        found = done(case, times)
        what, size, processes = case
        line = {"id": name_of(case), "what": what, "size": size, "processes": processes, **found}
        load = round(os.getloadavg()[0], 1)
        append(lines, line | {"load": load, "machine": machine(), "commit": commit()})
        typer.echo(f"{name_of(case)}: {found[seconds_of(what)]} s", err=True)


if __name__ == "__main__":
    command.run(main)
