"""Runtimes that can run an artefact. To add one: a file here and an entry in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge_bench.backends import openvino, ort, trt, trt_rtx
from edge_bench.backends.base import Backend
from edge_bench.backends.engine import tensorrt_here
from edge_bench.backends.engine_cache import EngineOptions
from edge_bench.console import ProgressCallback, no_progress
from edge_bench.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A way to run an artefact.

    Attributes:
        open: open a model with a number of threads (None: the runtime's choice); what `builds`
            takes an EngineOptions and a ProgressCallback, too.
        here: what of it is on this machine, for people; CapabilityError where nothing is.
        builds: it builds an engine first, which takes a while, and computes on a GPU.
    """

    open: Callable[..., Backend]
    here: Callable[[], str]
    builds: bool = False

    @property
    def takes_threads(self) -> bool:
        """False where the CPU's threads compute nothing."""
        return not self.builds


def _ort(name: str) -> Runtime:
    return Runtime(open=partial(ort.OrtBackend, name=name), here=partial(ort.provider_here, name))


BACKENDS = {name: _ort(name) for name in ort.PROVIDERS} | {
    "openvino": Runtime(open=openvino.OpenVinoBackend, here=openvino.openvino_here),
    "trt": Runtime(open=trt.TrtBackend, here=tensorrt_here, builds=True),
    "trt-rtx": Runtime(
        open=trt_rtx.TrtRtxBackend,
        here=partial(tensorrt_here, trt_rtx.TENSORRT_RTX),
        builds=True,
    ),
}


def open_backend(
    name: str,
    model: Path,
    threads: int | None,
    engine: EngineOptions | None = None,
    report_progress: ProgressCallback = no_progress,
) -> Backend:
    """Open `model` in the runtime `name` with that many threads (None: the runtime's choice).

    `engine` says how a runtime that `builds` does so, `report_progress` hears how far it is.
    """
    if name not in BACKENDS:
        raise InputError(f"--backend {name}: expected one of {', '.join(BACKENDS)}")
    runtime = BACKENDS[name]
    if runtime.builds:
        return runtime.open(model, threads, engine, report_progress)
    return runtime.open(model, threads)
