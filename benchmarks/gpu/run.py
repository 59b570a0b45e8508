"""The GPU hour: what only a GPU can show, in the order of its value, within a time that is kept.

    python -m benchmarks.gpu.run --data packed --teacher TEACHER --minutes 12 --lines gpu.jsonl
    python -m benchmarks.gpu.run --dry-run

`--data` is a folder of `benchmarks.gpu.pack`. Each step is a process of its own, which is stopped
when time is up; lines are written as they come, so that what was found by then is kept. A step that
could not do anything useful in what is left is not begun, and its line says so. `--dry-run` does
the same in miniature, on noise and on the CPU where there is no GPU.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import command
from benchmarks.gpu.context import Context
from benchmarks.gpu.steps import STEPS, Step
from benchmarks.lines import append, commit, machine
from edge_bench.core.errors import InputError

DRY_MINUTES = 5.0


@dataclass(frozen=True)
class Clock:
    """When the run must be over."""

    end: float

    def minutes_left(self) -> float:
        """From now on."""
        return max(0.0, self.end - time.monotonic()) / 60


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of packed parts.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="A robust teacher's weights.")] = None,
    minutes: Annotated[float, typer.Option(help="All of it takes no longer.")] = 12.0,
    lines: Annotated[Path, typer.Option(help="Where findings go.")] = Path("gpu.jsonl"),
    work: Annotated[Path, typer.Option(help="Folder for weights.")] = Path("runs/gpu"),
    only: Annotated[list[str] | None, typer.Option(help="Steps by name.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="In miniature, anywhere.")] = False,
    step: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the steps one after another."""
    if not dry_run and (data is None or teacher is None):
        raise InputError("--data and --teacher: expected both, or --dry-run for a miniature of it")
    context = Context(
        data=data, teacher=teacher, lines=lines, work=work, dry_run=dry_run, minutes=minutes
    )
    if step is not None:
        STEPS[step].run(context)
        return
    unknown = sorted(set(only or ()) - set(STEPS))
    if unknown:
        raise InputError(f"--only {unknown[0]}: expected one of {', '.join(STEPS)}")
    minutes = min(minutes, DRY_MINUTES) if dry_run else minutes
    clock = Clock(time.monotonic() + 60 * minutes)
    origin = {"commit": commit(), "machine": machine(), "dry_run": dry_run}
    failed = [
        name
        for name, each in STEPS.items()
        if (not only or name in only) and not _done(name, each, context, clock, origin)
    ]
    print(f"{lines}: done, {clock.minutes_left():.1f} minutes left")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _done(name: str, step: Step, context: Context, clock: Clock, origin: dict[str, object]) -> bool:
    """Run one step and write how it ended; False where it failed."""
    left = clock.minutes_left()
    least = step.least_minutes / (20 if context.dry_run else 1)
    line = {"step": name, "what": "end", **origin}
    if left < least:
        append(context.lines, line | {"skipped": f"{left:.1f} of {least:g} minutes left"})
        return True
    command = [sys.executable, "-m", "benchmarks.gpu.run", "--step", name, *context.options(left)]
    begin = time.monotonic()
    print(f"{name}: {left:.1f} minutes left", flush=True)
    try:
        ended = subprocess.run(command, check=False, timeout=60 * left)
        outcome = {"exit": ended.returncode}
    except subprocess.TimeoutExpired:
        outcome = {"stopped": True}
    seconds = round(time.monotonic() - begin, 1)
    append(context.lines, line | outcome | {"seconds": seconds})
    return outcome.get("exit", 0) == 0


if __name__ == "__main__":
    command.run(main)
