"""Runtimes that can run an artefact. To add one: a file here and an entry in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_bench.backends import ort, trt
from edge_bench.backends.base import Backend
from edge_bench.console import ProgressCallback, no_progress
from edge_bench.engine_cache import EngineOptions
from edge_bench.errors import InputError

BACKENDS: dict[str, Callable[[Path, int | None], Backend]] = {
    "ort": ort.OrtBackend,
    "trt": trt.TrtBackend,
}


def open_backend(
    name: str,
    model: Path,
    threads: int | None,
    engine: EngineOptions | None = None,
    report_progress: ProgressCallback = no_progress,
) -> Backend:
    """Open `model` in the runtime `name` with that many threads (None: the runtime's choice).

    `engine` says how `trt` builds, and `report_progress` hears how far it is.
    """
    if name not in BACKENDS:
        raise InputError(f"--backend {name}: expected one of {', '.join(BACKENDS)}")
    if name == "trt":
        return trt.TrtBackend(model, threads, engine, report_progress)
    return BACKENDS[name](model, threads)
