"""Read a board's sensors in a thread while the benchmark runs, by the clock of its timings.

Only the monotonic clock is used, so setting the wall clock changes nothing. Whatever a sensor
does, the benchmark goes on: the worst is a report that lacks it.
"""

from __future__ import annotations

import resource
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from types import TracebackType

from edge_bench import devices
from edge_bench.core.series import POWER, Phase, Samples, Series, Telemetry, encode_series
from edge_bench.devices.sensors import Channel, Source

NONE = -(2**63)
"""Stands for a failed reading in an array of 64-bit numbers: 8 bytes a value for hours."""
JOIN_S, LONGEST_WAIT_S = 3.0, 60.0
SETTLING = 0.2


class _Track:
    """The readings of one source so far."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.due_ns = 0
        self.times_us = array("q")
        self.values = [array("q") for _ in source.channels]

    def read(self, origin_ns: int, clock: Callable[[], int]) -> None:
        begin = clock()
        period_ns = int(self.source.period_s * 1e9)
        self.due_ns += period_ns
        if self.due_ns <= begin:  # The first reading, or one that came a period too late.
            self.due_ns = begin + period_ns
        values = self.source.read()
        # A reading may take long: its middle is the best guess at when it was true.
        time_us = ((begin + clock()) // 2 - origin_ns) // 1000
        if self.times_us and time_us <= self.times_us[-1]:
            return
        for kept, value in zip(self.values, values, strict=True):
            kept.append(NONE if value is None else value)
        self.times_us.append(time_us)

    def samples(self) -> Samples | None:
        """What was read of the sensors that answered at least once."""
        count = len(self.times_us)
        series = []
        for channel, values in zip(self.source.channels, self.values, strict=True):
            known = [None if value == NONE else value for value in values[:count]]
            if any(value is not None for value in known):
                series.append(_series(channel, known))
        if not series:
            return None
        return Samples(
            period_us=int(self.source.period_s * 1e6),
            time_us=encode_series(self.times_us[:count]),
            series=tuple(series),
        )


def _series(channel: Channel, values: list[int | None]) -> Series:
    return Series(
        quantity=channel.quantity,
        name=channel.name,
        values=encode_series(values),
        resolution=channel.resolution,
    )


class Recorder:
    """Reads `sources` from `with` until `finish`. Without channels it does nothing at all.

    `total` gives, from the names of the power rails that answered, those that are summed, and what
    their sum is. `clock` must never go back.
    """

    def __init__(
        self,
        sources: list[Source],
        total: Callable[[list[str]], tuple[tuple[str, ...], str | None]],
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self._tracks = [_Track(source) for source in sources if source.channels]
        self._total, self._clock = total, clock
        self._origin_ns = clock()
        self._phases: list[Phase] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="telemetry", daemon=True)
        self._cpu_ns = 0
        self._children_s = _children_s()
        self._done: Telemetry | None = None

    def __enter__(self) -> Recorder:
        if self._tracks:
            self.tick()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish()

    def tick(self, *, all_sources: bool = True) -> None:
        """Read every source, or only those whose time has come."""
        for track in list(self._tracks):
            if all_sources or self._clock() >= track.due_ns:
                try:
                    track.read(self._origin_ns, self._clock)
                except Exception:
                    # No sensor is worth a benchmark; what it said is kept, and the gap shows.
                    track.due_ns = 2**63

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Mark what runs inside as a part of the run."""
        begin = self._clock()
        try:
            yield
        finally:
            end = self._clock()
            origin = self._origin_ns
            self._phases.append(
                Phase(name=name, begin_us=(begin - origin) // 1000, end_us=(end - origin) // 1000)
            )

    @property
    def has_power(self) -> bool:
        """Does any sensor tell power?"""
        channels = [channel for track in self._tracks for channel in track.source.channels]
        return any(channel.quantity == POWER for channel in channels)

    def idle(self, seconds: float) -> None:
        """Do nothing for a while where power is told: the baseline of every energy.

        The first fifth is not in the phase: clocks fall and sensors average over the past.
        """
        if self.has_power and seconds > 0:
            self._stop.wait(SETTLING * seconds)
            with self.phase("idle"):
                self._stop.wait((1 - SETTLING) * seconds)

    def finish(self) -> Telemetry | None:
        """End the recording; what was recorded, or None where no sensor ever answered."""
        if not self._stop.is_set():
            self._stop.set()
            self._done = self._collect() if self._tracks else None
        return self._done

    def _loop(self) -> None:
        while not self._stop.is_set():
            self.tick(all_sources=False)
            next_ns = min(track.due_ns for track in self._tracks)
            self._stop.wait(min(max(0.0, (next_ns - self._clock()) / 1e9), LONGEST_WAIT_S))
        self._cpu_ns = thread_time_ns()

    def _collect(self) -> Telemetry | None:
        if self._thread.is_alive():
            self._thread.join(JOIN_S)
        if not self._thread.is_alive():
            self.tick()  # The counters' last word.
            for track in self._tracks:
                track.source.close()
        samples = [part for part in (track.samples() for track in self._tracks) if part]
        if not samples:
            return None
        power = [s.name for part in samples for s in part.series if s.quantity == POWER]
        rails, words = self._total(power)
        return Telemetry(
            samples=tuple(samples),
            phases=tuple(self._phases),
            total_rails=rails,
            total_is=words,
            cpu_ns=self._cpu_ns + int(1e9 * (_children_s() - self._children_s)),
        )


def recorder_of(device: str, root: Path = devices.ROOT) -> Recorder:
    """A recorder of what the device (a key of `devices.DEVICES`) has."""
    known = devices.DEVICES[device]
    return Recorder(known.sources(root), known.total)


def _children_s() -> float:
    """CPU seconds of the programs that this process started and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
