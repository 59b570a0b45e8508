"""Time one artefact under several settings: threads, cores and batch sizes."""

from __future__ import annotations

import os
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from edge_bench.backends import BACKENDS, open_backend
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.progress import ProgressCallback
from edge_bench.core.timings import SweepPoint
from edge_bench.files.sets import AdversarialSet, open_sets
from edge_bench.options.bench import BenchOptions
from edge_bench.options.setting import Setting, cores_text
from edge_bench.timing.own_process import own_process
from edge_bench.timing.scenarios import time_offline, time_single_stream


def run_sweep(
    model: Path,
    sets: list[AdversarialSet],
    options: BenchOptions,
    report_progress: ProgressCallback,
) -> tuple[SweepPoint, ...]:
    """Time `model` under each of `options.sweep`.

    Each in a process of its own: a runtime reads the cores that it may use once, and what one point
    allocated is no burden for the next.

    Raises:
        InputError: a setting that the model or the machine does not have.
        CapabilityError: cores cannot be chosen here, or a point's process died.
    """
    check_sweep(options)
    points: list[SweepPoint] = []
    path = sets[0].path if sets else None
    for number, setting in enumerate(options.sweep, 1):
        with own_process() as pool:
            try:
                point = pool.submit(time_point, model, path, options, setting).result()
            except BrokenProcessPool:
                raise CapabilityError(
                    f"--sweep: the process of {setting} died, as where memory runs out; leave that "
                    "setting out"
                ) from None
        points.append(point)
        report_progress(number, len(options.sweep), f"sweep: {setting}")
    return tuple(points)


def check_sweep(options: BenchOptions) -> None:
    """Refuse now what a point could not be run with.

    Raises:
        InputError: threads for a runtime without, or cores that this process may not use.
        CapabilityError: cores cannot be chosen on this system.
    """
    threads = any(setting.threads for setting in options.sweep)
    if threads and options.backend in BACKENDS and not BACKENDS[options.backend].takes_threads:
        raise InputError(
            f"--sweep threads: --backend {options.backend} computes nothing on the CPU's threads; "
            "leave them out"
        )
    wanted = {core for setting in options.sweep for core in setting.cores or ()}
    if not wanted:
        return
    if not hasattr(os, "sched_getaffinity"):
        raise CapabilityError("--sweep affinity: this system does not let a process choose cores")
    here = os.sched_getaffinity(0)
    if missing := sorted(wanted - here):
        raise InputError(
            f"--sweep affinity: no core {missing[0]} for this process, which may use "
            f"{cores_text(tuple(sorted(here)))}"
        )


def time_point(
    model: Path, set_path: Path | None, options: BenchOptions, setting: Setting
) -> SweepPoint:
    """Time one point in this process, which is held to its cores from now on."""
    if setting.cores is not None:
        os.sched_setaffinity(0, setting.cores)
    threads = setting.threads or options.threads
    if threads is None and setting.cores and BACKENDS[options.backend].takes_threads:
        # Left to itself, a runtime may take one thread per core of the machine, and pin it there.
        threads = len(setting.cores)
    sets = open_sets(set_path) if set_path else []
    engine = replace(options.engine, max_batch=max(setting.batch_size, options.batch_size))
    opened = open_backend(options.backend, model, threads, engine, output=options.output)
    with opened as backend:
        if setting.batch_size == 1:
            timed = time_single_stream(backend, sets, options, nullcontext())
        else:
            timed = time_offline(backend, sets, setting.batch_size, options, nullcontext())
    return SweepPoint(threads=threads, cores=setting.cores, timed=timed)
