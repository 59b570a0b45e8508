"""How long the whole chain on small data takes, once everything is installed."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from benchmarks.speed import machine
from benchmarks.speed.finding import Asked, Case, Finding, alone
from benchmarks.speed.turns import command, python

TITLE = "The demo"
SECONDS = 330.0
ABOUT = """Seconds of `ardx demo` on all cores, the installation not among them; in three turns at
most, one after the other."""
LEFT = """By the clock, of 105 s: 10 until the first step (imports), 30 of 300 steps that teach, 40
of 500 that distil, 3 undefended, 6 for exports and attacks, 16 for four benchmarks, each of which
times for two seconds. 8 x 8 pixels take torch few of a step's tenth of a second: the rest is what
its calls cost."""

MOST, MOST_WITHOUT_BF16 = 60.0, 120.0
TURNS = 3


def cases(asked: Asked) -> dict[str, Case]:
    """One, with nothing beside it."""
    return {"ardx demo": partial(measured, min(asked.turns, TURNS))}


def measured(turns: int) -> list[Finding]:
    """The whole command, as many times."""
    with tempfile.TemporaryDirectory() as name:
        words = (*python("-u", "-m", "ard", "demo"), "--out", "demo", "--force")
        # All cores, whatever the suite's own process may take.
        took = [
            command(["env", "-u", "OMP_NUM_THREADS", *words], Path(name))[0] for _ in range(turns)
        ]
    bar = MOST if machine.has_bf16() else MOST_WITHOUT_BF16
    return [alone(took, rival="the whole command", bar=bar)]
