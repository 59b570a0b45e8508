"""Throttling is what changed during the run, not what had been before it."""

from __future__ import annotations

import pytest

from edge_bench.samples import (
    EVENTS,
    FLAGS,
    STATE,
    TEMPERATURE,
    Samples,
    Series,
    Telemetry,
    encode_series,
)
from edge_bench.throttling import Throttling, throttling


def recorded(quantity: str, *values: int | None, name: str = "sensor") -> Telemetry:
    series = Series(quantity=quantity, name=name, values=encode_series(values))
    times = encode_series(range(len(values)))
    samples = Samples(period_us=1, time_us=times, series=(series,))
    return Telemetry(samples=(samples,), phases=())


@pytest.mark.parametrize(
    ("quantity", "values", "seen", "hidden"),
    [
        (EVENTS, (813, 813, 813), (), ()),
        (EVENTS, (813, 815, 816), ("sensor (3 events)",), ()),
        (EVENTS, (813, None, 816), ("sensor (3 events)",), ()),
        (EVENTS, (813, 813, None), (), ("sensor (fell silent)",)),
        (STATE, (0, 0, 0), (), ()),
        (STATE, (0, 2, 0), ("sensor",), ()),
        (FLAGS, (0, 0, 0), (), ()),
        (FLAGS, (0, 0x4, 0x40000), ("throttled",), ()),
        # Set and gone between two readings: the upper half alone tells.
        (FLAGS, (0, 0x20000, 0x20000), ("frequency capped",), ()),
        (FLAGS, (0x50000, 0x50000), (), ("under-voltage", "throttled")),
        (FLAGS, (0x50000, 0x50004), ("throttled",), ("under-voltage",)),
        (FLAGS, (0x80008, 0x80008), ("soft temperature limit",), ()),
    ],
)
def test_only_what_happened_during_the_run_counts(
    quantity: str, values: tuple[int | None, ...], seen: tuple[str, ...], hidden: tuple[str, ...]
) -> None:
    found = throttling(recorded(quantity, *values))
    assert found is not None
    assert found.seen == seen
    assert tuple(text.removesuffix(" (had occurred since boot)") for text in found.hidden) == hidden


def test_without_a_sensor_throttling_is_unknown() -> None:
    assert throttling(None) is None
    assert throttling(recorded(TEMPERATURE, 50_000)) is None


def test_every_sensor_is_heard() -> None:
    one, other = recorded(EVENTS, 0, 0), recorded(STATE, 0, 1, name="cpu-throttle-alert")
    both = Telemetry(samples=(*one.samples, *other.samples), phases=())
    assert throttling(both) == Throttling(seen=("cpu-throttle-alert",), hidden=())
