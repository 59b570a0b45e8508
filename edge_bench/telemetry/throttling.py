"""Was the board slowed while it was measured?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from edge_bench.core.series import EVENTS, FLAGS, STATE, Series, Telemetry, decode_series
from edge_bench.devices.vcgencmd import FLAG_NAMES, OCCURRED


@dataclass(frozen=True, kw_only=True)
class Throttling:
    """Evidence of a run.

    Attributes:
        seen: what throttled, and how often where that is counted.
        hidden: what may have throttled unseen, and why: a bit that had been set since before the
            run cannot tell of a short time between two readings, nor a sensor that fell silent.
        while_timed: of `seen`, what throttled while something was timed, as far as the readings
            from just before to just after tell.
    """

    seen: tuple[str, ...]
    hidden: tuple[str, ...]
    while_timed: tuple[str, ...] = ()


def throttling(telemetry: Telemetry | None) -> Throttling | None:
    """What slowed the board from the first reading to the last; None where nothing tells it."""
    if telemetry is None:
        return None
    found = [
        (samples, series)
        for samples in telemetry.samples
        for series in samples.series
        if series.quantity in (EVENTS, STATE, FLAGS)
    ]
    if not found:
        return None
    spans = [(p.begin_us, p.end_us) for p in telemetry.phases if p.name != "idle"]
    seen: list[str] = []
    hidden: list[str] = []
    while_timed: list[str] = []
    for samples, series in found:
        values = decode_series(series.values)
        if values[-1] is None:
            hidden.append(f"{series.name} (fell silent)")
        new, masked = _happened(series, values)
        seen += new
        hidden += masked
        times = [time or 0 for time in decode_series(samples.time_us)]
        for begin, end in spans:
            while_timed += _happened(series, _around(values, times, begin, end))[0]
    # Of a recording without phases all may have been timed.
    timed = dict.fromkeys(while_timed) if spans else seen
    return Throttling(seen=tuple(seen), hidden=tuple(hidden), while_timed=tuple(timed))


def _around(values: list[int | None], times: list[int], begin: int, end: int) -> list[int | None]:
    """Readings from the last known one before `begin` to the first known one after `end`."""
    known = [time for time, value in zip(times, values, strict=True) if value is not None]
    first = max((time for time in known if time <= begin), default=0)
    last = min((time for time in known if time >= end), default=times[-1])
    return [value for time, value in zip(times, values, strict=True) if first <= time <= last]


def _happened(series: Series, values: list[int | None]) -> tuple[list[str], list[str]]:
    """(what throttled during the readings, what may have done so unseen)."""
    known = [value for value in values if value is not None]
    if not known:
        return [], []
    if series.quantity == FLAGS:
        return _flags(known)
    if series.quantity == EVENTS:
        more = known[-1] - known[0]
        return ([f"{series.name} ({more} events)"] if more > 0 else []), []
    return ([series.name] if any(known) else []), []


def _flags(values: list[int]) -> tuple[list[str], list[str]]:
    seen, hidden = [], []
    # From one reading to the next: the kernel's driver has the firmware clear these bits whenever
    # it asks, every 2 s, so one that came may be gone again at the end.
    come = [after & ~before for before, after in pairwise(value >> OCCURRED for value in values)]
    for bit, name in enumerate(FLAG_NAMES):
        mask = 1 << bit
        if any(value & mask for value in (*values, *come)):
            seen.append(name)
        elif values[0] >> OCCURRED & mask:
            hidden.append(f"{name} (had occurred since boot)")
    return seen, hidden
