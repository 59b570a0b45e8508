"""Runtimes that can run an artefact. To add one: a file here and an entry in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge_bench.backends import openvino, ort, trt
from edge_bench.backends.base import Backend
from edge_bench.backends.engine import tensorrt_here
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.options.engine import EngineOptions


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A way to run an artefact.

    Attributes:
        open: open a model with a number of threads (None: the runtime's choice).
        here: what of it is on this machine, for people; CapabilityError where nothing is.
        takes_threads: False where the CPU's threads compute nothing.
    """

    open: Callable[[Path, int | None], Backend]
    here: Callable[[], str]
    takes_threads: bool = True


def _ort(name: str) -> Runtime:
    return Runtime(open=partial(ort.OrtBackend, name=name), here=partial(ort.provider_here, name))


BACKENDS = {name: _ort(name) for name in ort.PROVIDERS} | {
    "openvino": Runtime(open=openvino.OpenVinoBackend, here=openvino.openvino_here),
    "trt": Runtime(open=trt.TrtBackend, here=tensorrt_here, takes_threads=False),
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
    return BACKENDS[name].open(model, threads)
