"""How a benchmark is run: the options of `ardx bench`, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, inf, isfinite

from edge_bench.core.errors import InputError
from edge_bench.options.engine import EngineOptions
from edge_bench.options.pictures import PictureOptions
from edge_bench.options.setting import MOST_BATCH, MOST_THREADS, Setting

SCENARIOS = ("single-stream", "multi-stream", "offline")
MOST_CALLS = 2**31 - 1
CALLS_A_SECOND = 100_000
"""More than any runtime answers: a call of nothing takes it longer."""
LINE, WORD = 24, 8
"""Bytes of a time in a report: on a line of its own, and in the series of a soak."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How to run a benchmark.

    Attributes:
        device: key of `devices.DEVICES`, or `auto`.
        backend: key of `backends.BACKENDS`.
        threads: runtime threads; None leaves it to the runtime.
        batch_size: images per call in replay and throughput; latency is always one image.
        warmup_runs: least number of calls that are dropped before timing.
        settle_seconds: how long the warm-up may go on for latency to settle; 0 does not wait.
        min_runs, min_seconds: both must be reached by each timing (fewer runs where a call takes
            many images).
        scenarios: what is timed besides single-stream and offline at `batch_size`: keys of
            SCENARIOS.
        streams: images of a query of multi-stream.
        batches: batch sizes of offline.
        sweep: settings to time, too.
        soak_minutes: how long single-stream goes on at the end; 0 leaves it out.
        idle_seconds: how long idle power is measured first, where a sensor tells power.
        output: of the graph, which gives the logits; None where one alone can.
        mean, std: per-channel normalisation for graphs that do not hold their own.
        engine: how `trt` builds; its largest batch is `batch_size`.
        pictures: to walk from their files to logits, too.
    """

    device: str = "auto"
    backend: str = "ort"
    threads: int | None = None
    batch_size: int = 64
    warmup_runs: int = 20
    min_runs: int = 300
    min_seconds: float = 2.0
    settle_seconds: float = 5.0
    scenarios: tuple[str, ...] = ()
    streams: int = 8
    batches: tuple[int, ...] = ()
    sweep: tuple[Setting, ...] = ()
    soak_minutes: float = 0.0
    idle_seconds: float = 5.0
    output: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    pictures: PictureOptions | None = None

    def __post_init__(self) -> None:
        for option, value, least, most in (
            ("--batch-size", self.batch_size, 1, MOST_BATCH),
            ("--runs", self.min_runs, 1, MOST_CALLS),
            ("--warmup", self.warmup_runs, 0, MOST_CALLS),
            ("--threads", 1 if self.threads is None else self.threads, 1, MOST_THREADS),
            ("--streams", self.streams, 1, MOST_BATCH),
            *(("--batches", size, 1, MOST_BATCH) for size in self.batches),
        ):
            if not least <= value <= most:
                raise InputError(f"{option} {value}: expected {least} or more, and at most {most}")
        for option, seconds in (
            ("--seconds", self.min_seconds),
            ("--settle-seconds", self.settle_seconds),
            ("--idle-seconds", self.idle_seconds),
            ("--soak", self.soak_minutes),
        ):
            if not 0 <= seconds < inf:
                raise InputError(f"{option} {seconds:g}: expected a time of 0 or more")
        if unknown := [name for name in self.scenarios if name not in SCENARIOS]:
            raise InputError(
                f"--scenario {unknown[0]}: expected {', '.join(SCENARIOS)} (several with commas)"
            )
        if len(self.mean or ()) != len(self.std or ()):
            raise InputError("--mean and --std: expected both, of as many values, or neither")
        if not all(isfinite(value) for value in self.mean or ()):
            raise InputError(f"--mean {self.mean}: expected finite values")
        if not all(0 < value < inf for value in self.std or ()):
            raise InputError(f"--std {self.std}: expected values above 0")

    @property
    def most_timed_bytes(self) -> int:
        """What the times of all calls can take of a report's text, each timing's and the soak's."""
        sizes = len(self.batches) or self.batch_size.bit_length()
        timings = len(SCENARIOS) + sizes + len(self.sweep)
        timed = timings * (self.min_runs + self.min_seconds * CALLS_A_SECOND)
        return ceil(timed * LINE + 60 * self.soak_minutes * CALLS_A_SECOND * WORD)
