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
        by: what was done.
        to: what it was done to, such as a command.
        tried, held: how often.
        failed: the first failures, in words.
    """

    promise: str
    by: str
    to: str
    tried: int
    held: int
    failed: tuple[str, ...] = ()

    def line(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "id": f"{self.promise}: {self.by}: {self.to}",
            "promise": self.promise,
            "by": self.by,
            "to": self.to,
            "tried": self.tried,
            "held": self.held,
            "failed": list(self.failed),
        }


def counted(promise: str, by: str, to: str, found: Iterable[str | None]) -> Outcome:
    """The outcome of trials, each None where it held and otherwise what failed."""
    trials = list(found)
    failures = [trial[-LONGEST:] for trial in trials if trial is not None]
    return Outcome(
        promise=promise,
        by=by,
        to=to,
        tried=len(trials),
        held=len(trials) - len(failures),
        failed=tuple(failures[:TOLD]),
    )
