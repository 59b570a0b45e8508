"""What is timed, in MLPerf's words: single-stream, multi-stream and offline.

Single-stream sends the next image when the last one is answered; multi-stream does so with a query
of several images, all there at once; offline wants the most images a second. MLPerf judges them by
the latency's p90, by its p99, and by throughput.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.backends.base import Backend
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback
from edge_bench.core.timings import Measurement, Soak
from edge_bench.files.sets import AdversarialSet
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import batch_to_time
from edge_bench.telemetry.recorder import Recorder
from edge_bench.timing.measure import measure
from edge_bench.timing.soak import soak

BATCH_RUNS, BATCH_WARMUP_RUNS = 10, 3
"""At most asked of calls of many images: each takes long, and the time asked for bounds them."""


def first_inference_ns(backend: Backend, sets: list[AdversarialSet], options: BenchOptions) -> int:
    """How long the first call of all takes, of one image; to be called before any other."""
    batch = batch_to_time(backend, sets, 1, options)
    start = perf_counter_ns()
    backend.infer(batch)
    return perf_counter_ns() - start


@dataclass(frozen=True, kw_only=True)
class Timings:
    """What a run timed; see Report."""

    latency: Measurement
    throughput: Measurement
    multi_stream: Measurement | None
    offline: tuple[Measurement, ...]
    soak: Soak | None


def time_scenarios(
    backend: Backend,
    sets: list[AdversarialSet],
    options: BenchOptions,
    first_ns: int,
    recorder: Recorder,
    report_progress: ProgressCallback,
) -> Timings:
    """Time all that `options` asks for, each as a phase of the telemetry.

    `first_ns` is the latency of the very first call.
    """
    latency = time_single_stream(backend, sets, options, recorder.phase("latency"), first_ns)
    phase = recorder.phase("throughput")
    throughput = time_offline(backend, sets, options.batch_size, options, phase)
    multi_stream = None
    if "multi-stream" in options.scenarios:
        multi_stream = _time_multi_stream(backend, sets, options, recorder.phase("multi-stream"))
    offline = tuple(
        time_offline(backend, sets, size, options, recorder.phase(f"offline of {size}"))
        for size in (_batches(backend, options) if "offline" in options.scenarios else ())
    )
    soaked = None
    if options.soak_minutes:
        batch = batch_to_time(backend, sets, 1, options)
        phase = recorder.phase("soak")
        soaked = soak(lambda: backend.infer(batch), options.soak_minutes, phase, report_progress)
    return Timings(
        latency=latency,
        throughput=throughput,
        multi_stream=multi_stream,
        offline=offline,
        soak=soaked,
    )


def require_batches(bound: int | None, options: BenchOptions) -> None:
    """Refuse what a model that is bound to batches of `bound` images cannot be timed with.

    Raises:
        InputError: another batch size, of a scenario or a sweep.
    """
    if bound is None:
        return
    offline = options.batches if "offline" in options.scenarios else ()
    if any(size != bound for size in offline):
        raise InputError(f"--batches: the model takes batches of {bound} alone; leave it out")
    if "multi-stream" in options.scenarios and options.streams % bound:
        raise InputError(
            f"--streams {options.streams}: expected a multiple of {bound}, the batch size that the "
            "model is bound to"
        )
    for setting in options.sweep:
        if setting.batch_size != bound:
            raise InputError(
                f"--sweep batch={setting.batch_size}: the model takes batches of {bound} alone; "
                f"write batch={bound} among its settings"
            )


def _batches(backend: Backend, options: BenchOptions) -> tuple[int, ...]:
    """Batch sizes of offline: those asked for, else powers of two up to that of the replay."""
    bound = backend.input.batch_size
    if bound or options.batches:
        return options.batches or (options.batch_size,)
    return tuple(1 << power for power in range(options.batch_size.bit_length()))


def time_single_stream(
    backend: Backend,
    sets: list[AdversarialSet],
    options: BenchOptions,
    timed: AbstractContextManager[None],
    first_ns: int | None = None,
) -> Measurement:
    """Latency of one image; the context `timed` is around what is timed."""
    batch = batch_to_time(backend, sets, 1, options)
    measurement = measure(
        lambda: backend.infer(batch),
        batch_size=len(batch),
        warmup_runs=options.warmup_runs,
        min_runs=options.min_runs,
        min_seconds=options.min_seconds,
        settle_seconds=options.settle_seconds,
        first_ns=first_ns,
        timed=timed,
    )
    _check_finite(backend, batch)
    return measurement


def time_offline(
    backend: Backend,
    sets: list[AdversarialSet],
    batch_size: int,
    options: BenchOptions,
    timed: AbstractContextManager[None],
) -> Measurement:
    """Calls of `batch_size` images, or of as many as the graph is bound to."""
    batch = batch_to_time(backend, sets, batch_size, options)
    return _time_batch(backend, batch, lambda: backend.infer(batch), options, timed, BATCH_RUNS)


def _time_multi_stream(
    backend: Backend,
    sets: list[AdversarialSet],
    options: BenchOptions,
    timed: AbstractContextManager[None],
) -> Measurement:
    """Queries of `options.streams` images; a graph bound to fewer answers one in several calls."""
    bound = backend.input.batch_size
    if bound is None:
        batch = batch_to_time(backend, sets, options.streams, options)
        call: Callable[[], object] = lambda: backend.infer(batch)  # noqa: E731
        return _time_batch(backend, batch, call, options, timed, options.min_runs)
    batch = batch_to_time(backend, sets, bound, options)
    calls = range(options.streams // bound)

    def query() -> None:
        for _ in calls:
            backend.infer(batch)

    return _time_batch(
        backend, batch, query, options, timed, options.min_runs, images=options.streams
    )


def _time_batch(
    backend: Backend,
    batch: NDArray[Any],
    call: Callable[[], object],
    options: BenchOptions,
    timed: AbstractContextManager[None],
    runs: int,
    images: int | None = None,
) -> Measurement:
    measurement = measure(
        call,
        batch_size=images or len(batch),
        warmup_runs=min(options.warmup_runs, BATCH_WARMUP_RUNS),
        min_runs=min(options.min_runs, runs),
        min_seconds=options.min_seconds,
        settle_seconds=options.settle_seconds,
        timed=timed,
    )
    _check_finite(backend, batch)
    return measurement


def _check_finite(backend: Backend, batch: NDArray[Any]) -> None:
    logits = backend.infer(batch)
    if logits.dtype.kind != "f":
        raise InputError(
            f"the model's output: expected logits in floats, came {logits.dtype.name}; export the "
            "classifier with its logits"
        )
    if not np.isfinite(logits).all():
        raise InputError(
            "the model's logits hold NaN or infinity on the images that were timed; export or "
            "quantise it again"
        )
