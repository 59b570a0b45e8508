"""Was the board slowed while it was measured?"""

from __future__ import annotations

from dataclasses import dataclass

from edge_bench.samples import EVENTS, FLAGS, STATE, Series, Telemetry, decode_series

FLAG_NAMES = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of the Raspberry Pi's get_throttled; 16 bits above, whether it has occurred."""
OCCURRED = 16


@dataclass(frozen=True, kw_only=True)
class Throttling:
    """Evidence of a run.

    Attributes:
        seen: what throttled, and how often where that is counted.
        hidden: what may have throttled unseen, and why: a bit that had been set since before the
            run cannot tell of a short time between two readings, nor a sensor that fell silent.
    """

    seen: tuple[str, ...]
    hidden: tuple[str, ...]


def throttling(telemetry: Telemetry | None) -> Throttling | None:
    """What slowed the board from the first reading to the last; None where nothing tells it."""
    series = [s for part in (telemetry.samples if telemetry else ()) for s in part.series]
    relevant = [s for s in series if s.quantity in (EVENTS, STATE, FLAGS)]
    if not relevant:
        return None
    seen: list[str] = []
    hidden: list[str] = []
    for one in relevant:
        decoded = decode_series(one.values)
        values = [value for value in decoded if value is not None]
        if decoded[-1] is None:
            hidden.append(f"{one.name} (fell silent)")
        if one.quantity == FLAGS:
            new, masked = _flags(values)
            seen += new
            hidden += masked
        elif one.quantity == EVENTS:
            seen += _events(one, values)
        elif any(values):
            seen.append(one.name)
    return Throttling(seen=tuple(seen), hidden=tuple(hidden))


def _events(series: Series, values: list[int]) -> list[str]:
    more = values[-1] - values[0]
    return [f"{series.name} ({more} events)"] if more > 0 else []


def _flags(values: list[int]) -> tuple[list[str], list[str]]:
    seen, hidden = [], []
    before, after = values[0] >> OCCURRED, values[-1] >> OCCURRED
    for bit, name in enumerate(FLAG_NAMES):
        mask = 1 << bit
        if any(value & mask for value in values) or after & ~before & mask:
            seen.append(name)
        elif before & mask:
            hidden.append(f"{name} (had occurred since boot)")
    return seen, hidden


def flag_names(bits: int) -> tuple[str, ...]:
    """The bits of get_throttled in words."""
    now = [f"{name} now" for bit, name in enumerate(FLAG_NAMES) if bits >> bit & 1]
    past = [
        f"{name} since boot"
        for bit, name in enumerate(FLAG_NAMES)
        if bits >> (bit + OCCURRED) & 1 and not bits >> bit & 1
    ]
    return (*now, *past)
