"""What a step of the check found: how often a promise was tried, how often it held, what failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

TOLD = 5
"""Failures that a line tells in words; the counts tell of all."""
LONGEST = 300


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One line of the record.

    Attributes:
        promise: of the documentation, in its words.
        step: what of ours tries it, such as a command and what was done to it.
        tried, held: how often.
        failed: the first failures, in words.
    """

    promise: str
    step: str
    tried: int
    held: int
    failed: tuple[str, ...] = ()

    def line(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "id": f"{self.promise}: {self.step}",
            "promise": self.promise,
            "step": self.step,
            "tried": self.tried,
            "held": self.held,
            "failed": list(self.failed),
        }


def counted(promise: str, step: str, found: Iterable[str | None]) -> Outcome:
    """The outcome of trials, each None where it held and otherwise what failed."""
    trials = list(found)
    failures = [trial[-LONGEST:] for trial in trials if trial is not None]
    return Outcome(
        promise=promise,
        step=step,
        tried=len(trials),
        held=len(trials) - len(failures),
        failed=tuple(failures[:TOLD]),
    )
