"""Time series of a board's sensors as a report keeps them: exact, and small as JSON.

A series is one string of whole numbers: the first value, then each difference from the last known
one, and `x` where there was none. Temperatures and clocks seldom change, so most of it is `0`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from edge_bench.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POWER, TEMPERATURE, CLOCK = "power_uw", "temperature_mc", "clock_khz"
EVENTS, STATE, FLAGS = "events", "state", "flags"
QUANTITIES = {
    POWER: "microwatts",
    TEMPERATURE: "thousandths of a degree Celsius",
    CLOCK: "kilohertz",
    EVENTS: "times since boot that hardware throttled",
    STATE: "0, or how far software throttles now",
    FLAGS: "bits of the Raspberry Pi's get_throttled",
}
MISSING = "x"
JOINED = 4096
LIMIT = 1 << 63
"""Numbers of a series are below it, and so is the sum of its steps: they are kept in 64 bits."""


def encode_series(values: Iterable[int | None]) -> str:
    """Whole numbers as one string; None is a reading that failed."""
    parts: list[str] = []
    words: list[str] = []
    last = 0
    for value in values:
        if value is None:
            words.append(MISSING)
        else:
            words.append(str(value - last))
            last = value
        if len(words) == JOINED:  # Hours of samples as words would take ten times their text.
            parts.append(" ".join(words))
            words.clear()
    return " ".join([*parts, *words])


def encode_array(values: NDArray[np.integer[Any]]) -> str:
    """The same of an array, of which a part at a time becomes Python's numbers."""
    parts = (values[at : at + JOINED].tolist() for at in range(0, len(values), JOINED))
    return encode_series(chain.from_iterable(parts))


def holds_only(characters: str, text: str) -> bool:
    """Is every character of `text` one of these ASCII ones? By a set it takes 15 times as long."""
    return not text.encode("ascii", "replace").translate(None, characters.encode("ascii"))


def series_array(text: str) -> NDArray[np.int64]:
    """The numbers of a series without gaps, with no Python object for each.

    Raises:
        InputError: not such a series, an empty one, or one of numbers that 64 bits do not hold.
    """
    import numpy as np

    words = text.count(" ") + 1
    if text and holds_only("-0123456789 ", text):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # Numpy warns of what it cannot read.
                found = np.fromstring(text, dtype=np.int64, sep=" ")
        except (DeprecationWarning, ValueError):
            found = np.empty(0, dtype=np.int64)
        # What is too large for numpy it reads as the largest that there is.
        if len(found) == words and np.abs(found, dtype=np.float64).sum() < LIMIT:
            return np.cumsum(found, out=found)
    raise InputError("a series without gaps: expected whole numbers of 64 bits, one or more")


def decode_series(text: str) -> list[int | None]:
    """The numbers that `encode_series` wrote.

    Raises:
        InputError: not such a string.
    """
    values: list[int | None] = []
    last = 0
    try:
        for word in text.split():
            if word == MISSING:
                values.append(None)
            else:
                last += int(word)
                if abs(last) >= LIMIT:
                    raise ValueError
                values.append(last)
    except ValueError:
        raise InputError(
            f"a series: expected whole numbers or {MISSING}, below 2^63, came {word[:40]!r}"
        ) from None
    return values


@dataclass(frozen=True, kw_only=True)
class Series:
    """What one sensor said: `quantity` fixes the unit, `resolution` is its least step if known."""

    quantity: str
    name: str
    values: str
    resolution: int | None = None


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Sensors that were read together.

    Attributes:
        period_us: the time meant to lie between two readings.
        time_us: when, as a series; microseconds of a monotonic clock since the recording began.
        series: as many values each as there are times.
    """

    period_us: int
    time_us: str
    series: tuple[Series, ...]

    def __post_init__(self) -> None:
        times = [-1 if time is None else time for time in decode_series(self.time_us)]
        if not times or times[0] < 0 or any(b <= a for a, b in pairwise(times)):
            raise InputError("telemetry: expected times that rise from 0 or more")
        for series in self.series:
            if series.quantity not in QUANTITIES:
                known = ", ".join(QUANTITIES)
                raise InputError(f"telemetry: expected one of {known}, came {series.quantity!r}")
            if len(decode_series(series.values)) != len(times):
                raise InputError(f"telemetry: expected {len(times)} values of {series.name}")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the run (`idle`, `latency`, `throughput`) on the clock of `Samples.time_us`."""

    name: str
    begin_us: int
    end_us: int


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """What the sensors said from before the model was opened until it was timed.

    Attributes:
        samples: one entry per group of sensors; a sensor that never answered is not among them.
        phases: parts of the run.
        total_rails: names of the power series whose sum is the total; empty without any.
        total_is: what that total is, in words.
        cpu_ns: CPU time that the recording took, of its thread and of the programs it asked.
    """

    samples: tuple[Samples, ...]
    phases: tuple[Phase, ...]
    total_rails: tuple[str, ...] = ()
    total_is: str | None = None
    cpu_ns: int | None = None
