"""A soak keeps every call and tells how the latency drifts, under a clock that the test moves."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from edge_bench.core.errors import InputError
from edge_bench.core.progress import no_progress
from edge_bench.core.series import decode_series, encode_series, series_array
from edge_bench.core.timings import Soak
from edge_bench.timing.soak import PARTS, drift, soak

MS = 1_000_000


class Heating:
    """Each call takes `growth_ns` more than the one before; nothing else takes time."""

    def __init__(self, growth_ns: int) -> None:
        self.now, self._next, self._growth_ns = 3, 10 * MS, growth_ns

    def call(self) -> None:
        self.now += self._next
        self._next += self._growth_ns

    def clock(self) -> int:
        return self.now


def soaked(minutes: float, growth_ns: int) -> Soak:
    board = Heating(growth_ns)
    return soak(board.call, minutes, nullcontext(), no_progress, board.clock)


def test_every_call_is_kept_for_as_long_as_was_asked() -> None:
    result = soaked(0.05, growth_ns=0)
    assert series_array(result.latency_ns).tolist() == [10 * MS] * 300
    # A report needs a call, however short the time was.
    assert series_array(soaked(1e-12, growth_ns=0).latency_ns).tolist() == [10 * MS]


def test_progress_is_told_by_tenths_and_ends_with_the_last() -> None:
    told: list[tuple[int, int]] = []
    board = Heating(0)
    # 7 calls of 10 ms are the first to fill 61 ms, and end beyond it.
    soak(
        board.call,
        0.061 / 60,
        nullcontext(),
        lambda done, total, _: told.append((done, total)),
        board.clock,
    )
    assert told == [(part, PARTS) for part in (1, 3, 4, 6, 8, 9, 10)]


def test_a_steady_device_has_no_drift() -> None:
    told = drift(soaked(0.1, growth_ns=0))
    assert told.change == 0
    assert told.median_ms == (10.0,) * PARTS


def test_a_device_that_slows_down_is_told_by_tenths_of_the_time() -> None:
    result = soaked(1.0, growth_ns=10_000)
    latency = np.array(decode_series(result.latency_ns), dtype=np.int64)
    told = drift(result)
    ends = np.cumsum(latency)
    last = latency[ends > 0.9 * ends[-1]]
    first = latency[ends <= 0.1 * ends[-1]]
    assert told.samples == len(latency)
    assert told.median_ms[-1] == np.median(last) / MS
    assert told.change == pytest.approx(np.median(last) / np.median(first) - 1, rel=1e-12)
    assert told.change > 0.5


def test_fewer_calls_than_tenths_are_still_told() -> None:
    told = drift(Soak(minutes=1, latency_ns=encode_series([5 * MS, 7 * MS])))
    assert told.median_ms == (5.0, 7.0)


@pytest.mark.parametrize("text", ["", "1 x", "1  2", "1 --2", "5 -9", "1.5", "1 2 "])
def test_what_is_no_series_of_latencies_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"soak|series"):
        Soak(minutes=1, latency_ns=text)


def test_a_long_series_comes_back_as_it_was() -> None:
    values = np.random.default_rng(0).integers(0, 10**9, 10_000).tolist()
    text = encode_series(values)
    assert series_array(text).tolist() == values == decode_series(text)
