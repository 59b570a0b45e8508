"""How costs grow with images, classes and processes: python -m benchmarks.scale.run

Each case is a process of its own, or some below torchrun, run --times times in turns; a line of
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

from benchmarks.lines import RESULTS, append, commit, finished, machine

LINES = RESULTS / "scale.jsonl"
IMAGES = (100, 316, 1000, 3162, 10_000)
CLASSES = (10, 32, 100, 316, 1000)
PROCESSES = (1, 2, 4)
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
)


def name_of(case: Case) -> str:
    """The identifier of its line."""
    what, size, processes = case
    return f"{what} {size} by {processes}"


def once(case: Case) -> dict[str, Any]:
    """Run a case."""
    what, size, processes = case
    command = [sys.executable, "-m", "benchmarks.scale.case", what, str(size)]
    if processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        command[1:2] = [*torchrun, "--nproc-per-node", str(processes), "-m"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(
    lines: Annotated[Path, typer.Option(help="File of lines.")] = LINES,
    times: Annotated[int, typer.Option(help="Of each case.", min=1)] = 3,
    only: Annotated[str, typer.Option(help="Cases that begin so.")] = "",
) -> None:
    """Run what has no line yet."""
    torch.set_num_threads(1)  # As each process has, so that the line says so.
    wanted = [c for c in CASES if name_of(c).startswith(only) and name_of(c) not in finished(lines)]
    found: dict[Case, list[dict[str, Any]]] = {case: [] for case in wanted}
    for _ in range(times):
        for case in found:
            found[case].append(once(case))
            typer.echo(f"{name_of(case)}: {found[case][-1]['cpu_s']:.3f} s", err=True)
    for (what, size, processes), runs in found.items():
        append(
            lines,
            {
                "id": name_of((what, size, processes)),
                "what": what,
                "size": size,
                "processes": processes,
                **{key: [round(run[key], 6) for run in runs] for key in runs[0]},
                "load": round(os.getloadavg()[2], 1),
                "machine": machine(),
                "commit": commit(),
            },
        )


if __name__ == "__main__":
    typer.run(main)
