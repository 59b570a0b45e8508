"""Throttling is what changed during the run, not what had been before it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.backends.ort import OrtBackend
from edge_bench.core.series import (
    EVENTS,
    FLAGS,
    STATE,
    TEMPERATURE,
    Phase,
    Samples,
    Series,
    Telemetry,
    encode_series,
)
from edge_bench.files.sets import AdversarialSet
from edge_bench.options.bench import BenchOptions
from edge_bench.report.doubts import doubts_in
from edge_bench.runs import one_run as bench
from edge_bench.telemetry.recorder import recorder_of
from edge_bench.telemetry.throttling import Throttling, throttling

SECOND = 1_000_000


def recorded(
    quantity: str,
    *values: int | None,
    name: str = "sensor",
    phases: tuple[tuple[str, float, float], ...] = (),
) -> Telemetry:
    """A reading a second."""
    series = Series(quantity=quantity, name=name, values=encode_series(values))
    times = encode_series(SECOND * second for second in range(len(values)))
    samples = Samples(period_us=SECOND, time_us=times, series=(series,))
    spans = tuple(
        Phase(name=name, begin_us=int(SECOND * begin), end_us=int(SECOND * end))
        for name, begin, end in phases
    )
    return Telemetry(samples=(samples,), phases=spans)


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
        # What was cleared in between, as the kernel's driver has it done.
        (FLAGS, (0, 0x50000, 0), ("under-voltage", "throttled"), ()),
        (FLAGS, (0x10000, 0, 0x10000, 0), ("under-voltage",), ()),
        (FLAGS, (0x10000, 0, 0), (), ("under-voltage",)),
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
    seen = ("cpu-throttle-alert",)
    assert throttling(both) == Throttling(seen=seen, hidden=(), while_timed=seen)


@pytest.mark.parametrize(
    ("quantity", "values", "timed"),
    [
        # Read at 0, 1, 2, ... seconds; timed from 2.5 to 3.5.
        (STATE, (0, 1, 0, 0, 0, 1), False),
        (STATE, (0, 0, 0, 1, 0, 0), True),
        (STATE, (0, 0, 1, 0, 0, 0), True),  # just before: perhaps still then
        (STATE, (0, 0, 1, None, None, 0), True),
        (EVENTS, (3, 5, 5, 5, 5, 6), False),
        (EVENTS, (3, 3, 3, 3, 4, 4), True),  # counted at some time between 3 and 4 seconds
        (EVENTS, (3, 3, None, None, 4, 4), True),
        (FLAGS, (0, 0x40004, 0x40000, 0x40000, 0x40000, 0x40000), False),
        (FLAGS, (0, 0x40004, 0x40000, 0x40004, 0x40000, 0x40000), True),
        (FLAGS, (0, 0, 0, 0, 0x20000, 0x20000), True),
        (FLAGS, (0, 0, 0, 0x20000, 0, 0), True),
        (FLAGS, (0, 0x20000, 0, 0, 0, 0), False),
    ],
)
@pytest.mark.parametrize("name", ["latency", "soak"])
def test_throttling_during_the_replay_is_told_from_that_while_something_is_timed(
    quantity: str, values: tuple[int | None, ...], timed: bool, name: str
) -> None:
    found = throttling(recorded(quantity, *values, phases=(("idle", 0, 1), (name, 2.5, 3.5))))
    assert found is not None
    assert len(found.seen) == 1
    assert len(found.while_timed) == timed


def test_readings_at_the_ends_of_what_is_timed_tell_all_of_it() -> None:
    """Nothing from before such a reading, or after it, was still so, or was so already."""
    at_its_ends = (("latency", 2, 4),)
    found = throttling(recorded(STATE, 0, 1, 0, 0, 0, 1, phases=at_its_ends))
    assert found == Throttling(seen=("sensor",), hidden=())


def test_throttling_while_idle_is_not_while_timed() -> None:
    found = throttling(recorded(STATE, 0, 1, 0, 0, phases=(("idle", 0.5, 1.5), ("soak", 2, 3))))
    assert found == Throttling(seen=("sensor",), hidden=())


@pytest.mark.parametrize(
    ("calls", "sentence"),
    [
        # The first inference, 10 calls of replay, then those that are timed.
        (range(4, 7), "during the replay, but not while it was timed (cpu-throttle-alert)"),
        (range(4, 14), "while it was timed (cpu-throttle-alert)"),
        (range(13, 14), "while it was timed (cpu-throttle-alert)"),
        (range(0), None),
    ],
)
def test_a_board_that_throttles_during_the_run_is_reported_for_what_it_slowed(
    make_board: Callable[[str], Path],
    make_model: Callable[..., Path],
    opened: AdversarialSet,
    quick: Callable[..., BenchOptions],
    monkeypatch: pytest.MonkeyPatch,
    calls: range,
    sentence: str | None,
) -> None:
    root = make_board("orin-nano")
    alert = root / "sys/class/thermal/cooling_device1/cur_state"
    recorder = recorder_of("jetson", root)
    for track in recorder._tracks:
        track.source.period_s = 3600.0  # Read when the test says so, and at the end.
    monkeypatch.setattr(bench, "recorder_of", lambda device, root: recorder)
    infer, numbers = OrtBackend.infer, count()

    def heating(backend: OrtBackend, batch: NDArray[Any]) -> NDArray[np.float32]:
        alert.write_text("1\n" if next(numbers) in calls else "0\n", encoding="utf-8")
        recorder.tick()
        return infer(backend, batch)

    monkeypatch.setattr(OrtBackend, "infer", heating)
    options = quick(device="jetson", batch_size=6, idle_seconds=0.0)
    report = bench.run(make_model(), [opened], options, root=root)
    told = [text for text in doubts_in(report) if "throttled" in text]
    assert [sentence in text for text in told if sentence] == ([True] if sentence else [])
    assert bool(told) == bool(sentence)
