"""Raw timings of a benchmark, as its report keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from edge_bench.core.errors import InputError
from edge_bench.core.ranges import at_least
from edge_bench.core.series import series_array


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Raw timings: one entry of `latency_ns` per call of `batch_size` images, unclipped.

    Attributes:
        first_ns: the very first call, kept apart.
        warmup_runs: calls that were dropped next.
        settled: had latency settled by then? None where that was not looked at.
        background_cores: mean number of cores that other processes kept busy while it was timed;
            None where that could not be told.
    """

    batch_size: int
    warmup_runs: int
    first_ns: int
    latency_ns: tuple[int, ...]
    settled: bool | None = None
    background_cores: float | None = None

    def __post_init__(self) -> None:
        others = {"warmup_runs": self.warmup_runs, "background_cores": self.background_cores}
        at_least(0, "measurement", others)
        if self.batch_size < 1 or not self.latency_ns:
            raise InputError(
                "measurement: expected a batch size of 1 or more and one or more timings, came "
                f"batch size {self.batch_size} and {len(self.latency_ns)} timings"
            )
        # Of the machine's clock, or of a file: neither gives a latency, nor a throughput.
        if (least := min(self.first_ns, *self.latency_ns)) < 0:
            raise InputError(
                f"measurement: expected timings of 0 ns or more, came {least} ns: the clock went "
                "back while it was timed"
            )
        if not any(self.latency_ns):
            raise InputError(
                f"measurement: expected timings above 0 ns, came {len(self.latency_ns)} of 0 ns: "
                "the clock stood still while it was timed"
            )


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One setting of a sweep and its timing; None where the sweep left it as it was.

    Attributes:
        threads: of the runtime.
        cores: numbers of the cores that the process was held to.
        timed: calls of `timed.batch_size` images.
    """

    threads: int | None
    cores: tuple[int, ...] | None
    timed: Measurement


@dataclass(frozen=True, kw_only=True)
class Soak:
    """One image a call, call after call, for a long time.

    Attributes:
        minutes: what was asked for.
        latency_ns: every call in order, as a series of `samples`: hours of them stay small.
        background_cores: as in Measurement.
    """

    minutes: float
    latency_ns: str
    background_cores: float | None = None

    def __post_init__(self) -> None:
        samples = series_array(self.latency_ns)
        if samples.min() < 0 or not samples.any():
            raise InputError(
                "soak: expected latencies of 0 ns or more, not all 0: the clock went back or stood "
                "still while it was timed"
            )
