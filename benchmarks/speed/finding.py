"""What a subject of the suite finds: our figure beside a rival's or a floor's, and the verdict."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.lines import Line

MOST, LEAST = "at most", "at least"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How much is measured.

    Attributes:
        turns: rounds in which ours and the rivals take their turns.
        quick: the smallest sizes alone, to see that a subject still works.
        work: a folder for files that are dear to make, kept between runs.
        threads: of one process that computes, where a subject does not choose them itself.
    """

    turns: int
    quick: bool
    work: Path
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One figure with its bar.

    Attributes:
        rival: what it is measured against, in words.
        how: key of HOWS: what `value` is made of.
        value, low, high: median over the turns, 10th and 90th percentile; None where the rival
            could not run here.
        bar: what `value` has to reach, in the sense of HOWS; None where there is none.
        ours, theirs: medians, in `unit`; `theirs` is None where nothing stands against ours.
        note: what a reader has to know of this line.
    """

    rival: str
    how: str
    value: float | None
    low: float | None = None
    high: float | None = None
    bar: float | None = None
    ours: float | None = None
    theirs: float | None = None
    unit: str = "s"
    turns: int = 0
    note: str = ""

    @property
    def held(self) -> bool | None:
        """Does the value reach its bar? None where there is no bar, or no value."""
        if self.value is None or self.bar is None:
            return None
        return self.value <= self.bar if HOWS[self.how] == MOST else self.value >= self.bar

    @property
    def clear(self) -> bool:
        """Do all turns but the outermost say the same as the median?"""
        if self.bar is None or self.low is None or self.high is None:
            return True
        return not self.low < self.bar < self.high

    def line(self) -> Line:
        """As JSON writes it; figures of four significant digits."""
        found: Line = asdict(self) | {"held": self.held}
        for name, value in found.items():
            if isinstance(value, float):
                found[name] = float(f"{value:.4g}")
        return found

    @classmethod
    def read(cls, line: Line) -> Finding:
        """From a line, whatever else it holds."""
        return cls(**{name: line[name] for name in cls.__dataclass_fields__})


HOWS = {"over": MOST, "times as fast": LEAST, "more": MOST, "itself": MOST, "exponent": MOST}
"""over: ours by theirs; times as fast: theirs by ours; more: ours less theirs; itself: ours."""


class Subject(Protocol):
    """A module of `subjects`."""

    TITLE: str
    """Heading of its table."""
    SECONDS: float
    """That its full form takes on two quiet cores."""
    ABOUT: str
    """What is measured, against what."""
    LEFT: str
    """Where a bar is not reached: what a profile says is left."""

    def cases(self, asked: Asked) -> Mapping[str, Case]: ...


Case = Callable[[], list[Finding]]


def against(
    ours: Sequence[float],
    theirs: Sequence[float],
    how: str,
    *,
    rival: str,
    bar: float | None = None,
    unit: str = "s",
    note: str = "",
) -> Finding:
    """From what both took in each turn; every turn gives a value of its own."""
    pairs = list(zip(ours, theirs, strict=True))
    values = {
        "over": [our / their for our, their in pairs],
        "times as fast": [their / our for our, their in pairs],
        "more": [our - their for our, their in pairs],
    }[how]
    return _finding(
        values,
        how=how,
        rival=rival,
        bar=bar,
        unit=unit,
        note=note,
        ours=statistics.median(ours),
        theirs=statistics.median(theirs),
    )


def alone(
    ours: Sequence[float],
    *,
    rival: str,
    bar: float | None = None,
    how: str = "itself",
    unit: str = "s",
    note: str = "",
) -> Finding:
    """A figure with nothing beside it."""
    middle = statistics.median(ours)
    return _finding(ours, how=how, rival=rival, bar=bar, unit=unit, note=note, ours=middle)


def missing(rival: str, how: str, why: str, bar: float | None = None) -> Finding:
    """Of a rival that cannot run here."""
    return Finding(rival=rival, how=how, value=None, bar=bar, note=why)


def _finding(values: Sequence[float], **others: Any) -> Finding:
    low, middle, high = (float(each) for each in np.quantile(values, (0.1, 0.5, 0.9)))
    return Finding(value=middle, low=low, high=high, turns=len(values), **others)
