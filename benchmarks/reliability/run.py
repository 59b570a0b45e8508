"""Try every promise of docs/explanation/reliability.md and write a line for each step.

    python -m benchmarks.reliability.run --lines docs/results/reliability.jsonl

`make reliability` runs this and then writes the page's table from the lines. On two cores the full
form is made for 15 minutes; `--kills 2 --flips 50 --seconds 1` takes a few.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.lines import append, commit
from benchmarks.reliability import children, damage, hostile, others
from benchmarks.reliability.interruptions import INTERRUPTIONS, Place
from benchmarks.reliability.long_commands import COMMANDS, make_material
from benchmarks.reliability.outcome import Outcome, counted

KILLS, FLIPS, FUZZ_SECONDS = 20, 1000, 4.0
SHARES = {"killed": 1.0, "signalled": 0.1, "full disk": 0.2, "power cut": 1.0, "together": 0.1}
"""Trials of each kind of interruption, of the number of kills."""


class Step(Protocol):
    """Tries a promise in a folder of its own."""

    def __call__(self, folder: Path) -> Outcome: ...


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How much of it."""

    kills: int
    flips: int
    seconds: float
    seed: int
    only: str


def steps(material: Path, asked: Asked) -> dict[str, Step]:
    """All steps by name, those that take longest first."""
    found: dict[str, Step] = {}
    for number, command in enumerate(COMMANDS):
        for kind, try_ in INTERRUPTIONS.items():
            times = max(1, round(SHARES[kind] * asked.kills))
            seed = asked.seed + number
            found[f"{command.name}: {kind}"] = partial(
                _interrupted, try_, command, material, times, seed
            )
    for file in damage.READABLE:
        found[f"damage: {file.name}"] = partial(_damaged, file, material, asked.flips, asked.seed)
    found |= {f"hostile: {name}": partial(_hostile, name, material) for name in hostile.HOSTILE}
    found |= others.steps(asked.seconds)
    return {name: step for name, step in found.items() if asked.only in name}


def _interrupted(
    try_: Any, command: Any, material: Path, times: int, seed: int, folder: Path
) -> Outcome:
    outcome: Outcome = try_(command, Place(material=material, folder=folder), times, seed)
    return outcome


def _damaged(kind: damage.Readable, material: Path, flips: int, seed: int, folder: Path) -> Outcome:
    return damage.damaged(kind, material, folder, flips, seed)


def _hostile(name: str, material: Path, folder: Path) -> Outcome:
    return hostile.tried(name, material, folder)


def _one(name: str, step: Step, folder: Path) -> tuple[str, Outcome, float]:
    begin = time.monotonic()
    try:
        outcome = step(folder)
    except Exception as error:
        # A step that cannot be tried is one that failed, and the others go on.
        what = f"could not be tried: {type(error).__name__}: {error}"[-300:]
        outcome = counted("Every step can be tried", "an error", name, [what])
    return name, outcome, time.monotonic() - begin


def main() -> None:
    """Run the steps in a process for each core, and exit 1 where one did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="moments for each command")
    parser.add_argument("--flips", type=int, default=FLIPS, help="flipped bits for each file")
    parser.add_argument("--seconds", type=float, default=FUZZ_SECONDS, help="for each parser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="steps whose names have this in them")
    parser.add_argument("--lines", type=Path, required=True)
    given = parser.parse_args()
    words = ("kills", "flips", "seconds", "seed", "only")
    asked = Asked(**{name: getattr(given, name) for name in words})
    begin, code = time.monotonic(), commit()
    with tempfile.TemporaryDirectory(prefix="ardx-reliability-") as name:
        failed = _all(Path(name), asked, given.jobs, given.lines, code)
    print(f"{time.monotonic() - begin:.0f} s; {failed} steps did not hold")
    sys.exit(int(failed > 0))


def _all(work: Path, asked: Asked, jobs: int, lines: Path, code: str) -> int:
    children.import_everything()
    material = work / "material"
    make_material(material)
    if os.fork() == 0:  # Computing nothing here: children fork from this process.
        damage.make_unfinished(material)
        os._exit(0)
    os.wait()
    if not asked.only:
        # Of some steps alone the lines take the place of those before (see `recorded`).
        lines.unlink(missing_ok=True)
    failed = 0
    todo = steps(material, asked)
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=fork) as pool:
        begun = [
            pool.submit(_one, name, step, work / f"step-{number}")
            for number, (name, step) in enumerate(todo.items())
        ]
        for future in begun:
            name, outcome, seconds = future.result()
            append(lines, outcome.line() | {"commit": code, "seconds": round(seconds, 1)})
            held = outcome.held == outcome.tried
            failed += not held
            print(f"{name}: {outcome.held} of {outcome.tried} ({seconds:.0f} s)", flush=True)
            if not held:
                print(json.dumps(outcome.failed, indent=2), flush=True)
    return failed


if __name__ == "__main__":
    main()
