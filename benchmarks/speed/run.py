"""Measure how fast ardx is, beside its peers and the floors: a line for each figure as it comes.

    make bench                      everything but the demo, in some 28 minutes on two quiet cores
    make bench ONLY=int8,replay     these subjects
    make bench BENCH=--quick        the smallest sizes, to see that all of it works

Each subject runs in a process of its own, and in it ours and the rivals by turns. What has its line
from this kind of machine and this code is not measured again, so that a stopped run goes on;
`--again` does. docs/results/speed.md is made from the lines by benchmarks/speed/report.py.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import cast

from benchmarks.lines import RESULTS, ROOT, append, finished
from benchmarks.speed import machine
from benchmarks.speed.finding import Asked, Finding, Subject

LINES = RESULTS / "speed.jsonl"
WORK = ROOT / ".bench/work"
SUBJECTS = (
    *("size", "start", "page", "replay", "ranking", "layers", "growth"),
    *("export", "step", "crafting", "int8", "demo"),
)
"""In the order in which they are measured."""
ASKED_FOR = ("demo",)
"""Only where ONLY names them: they take a machine of their own for minutes, for one figure."""
TURNS, QUICK_TURNS = 5, 1


def subject_named(name: str) -> Subject:
    """The module of a subject."""
    return cast(Subject, import_module(f"benchmarks.speed.subjects.{name}"))


def main() -> None:
    """Measure what is asked for; exit 1 where a subject could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="subjects, by commas: " + ", ".join(SUBJECTS))
    parser.add_argument("--turns", type=int, default=0, help=f"of ours and rivals ({TURNS})")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, one turn")
    parser.add_argument("--again", action="store_true", help="also what has its line already")
    parser.add_argument("--lines", type=Path, default=LINES)
    parser.add_argument("--work", type=Path, default=WORK, help="for networks that are kept")
    given = parser.parse_args()
    names = chosen(given.only)
    if isinstance(names, str):
        parser.error(names)
    turns = given.turns or (QUICK_TURNS if given.quick else TURNS)
    asked = Asked(turns=turns, quick=given.quick, work=given.work)
    asked.work.mkdir(parents=True, exist_ok=True)
    if not asked.quick:
        _tell(names)
    measured = [_apart(name, asked, given.lines, given.again) for name in names]
    sys.exit(int(not all(measured)))


def chosen(only: str) -> list[str] | str:
    """The subjects of ONLY, in our order; a sentence where it names another."""
    given = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := [name for name in given if name not in SUBJECTS]:
        return f"--only {unknown[0]}: expected subjects out of {', '.join(SUBJECTS)}"
    if given:
        return [name for name in SUBJECTS if name in given]
    return [name for name in SUBJECTS if name not in ASKED_FOR]


def _tell(names: list[str]) -> None:
    times = {name: subject_named(name).SECONDS for name in names}
    each = ", ".join(f"{name} {took:.0f} s" for name, took in times.items())
    print(f"about {sum(times.values()) / 60:.0f} minutes: {each}", flush=True)


def _apart(name: str, asked: Asked, lines: Path, again: bool) -> bool:
    """Measure a subject in a process of its own: no allocator, pool or import is another's."""
    begin = time.monotonic()
    # Before any library counts cores; a subject that wants more asks for them itself.
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    work = partial(measure, name, asked, lines, again)
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
    print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
    return process.exitcode == 0


def measure(name: str, asked: Asked, lines: Path, again: bool = False) -> None:
    """Add the lines of a subject that are not there yet; exit 1 where one could not be measured."""
    about, code = machine.about(), machine.code()
    done = {identifier.rpartition(" / ")[0] for identifier in finished(lines)}
    failed = False
    for case, work in subject_named(name).cases(asked).items():
        here = " / ".join((name, case, about["kind"], code, "quick" if asked.quick else "full"))
        if here in done and not again:
            print(f"{name}, {case}: measured already", flush=True)
            continue
        before = machine.load()
        try:
            found = work()
        except Exception:  # The other cases are measured all the same.
            traceback.print_exc()
            failed = True
            continue
        origin = about | {
            "subject": name,
            "case": case,
            "code": code,
            "quick": asked.quick,
            "threads": asked.threads,
            "load_before": before,
            "load_after": machine.load(),
        }
        for finding in found:
            append(lines, {"id": f"{here} / {finding.rival}"} | finding.line() | origin)
        _say(name, case, found)
    sys.exit(int(failed))


def _say(name: str, case: str, found: Iterable[Finding]) -> None:
    for finding in found:
        value = finding.note if finding.value is None else f"{finding.value:.3g} {finding.how}"
        verdict = {True: "held", False: "missed", None: ""}[finding.held]
        print(f"{name}, {case}: {value}, {finding.rival} {verdict}", flush=True)


if __name__ == "__main__":
    main()
