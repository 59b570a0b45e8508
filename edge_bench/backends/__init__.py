"""Runtimes that can run an artefact. To add one: a file here and an entry in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge_bench.backends import openvino, ort, trt, trt_rtx
from edge_bench.backends.base import Backend
from edge_bench.backends.engine import tensorrt_here
from edge_bench.backends.nvidia import TENSORRT, Compiler
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.files.external_data import model_files
from edge_bench.options.engine import EngineOptions


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A way to run an artefact.

    Attributes:
        open: open a model with a number of threads (None: the runtime's choice) and the name of
            the output that gives its logits (None: the one that can); what `builds` takes an
            EngineOptions and a ProgressCallback, too.
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


def _nvidia(compiler: Compiler) -> Runtime:
    return Runtime(open=partial(_trt, compiler), here=partial(tensorrt_here, compiler), builds=True)


def _trt(
    compiler: Compiler,
    model: Path,
    threads: int | None,
    output: str | None,
    engine: EngineOptions | None = None,
    report_progress: ProgressCallback = no_progress,
) -> Backend:
    if output is not None:
        raise InputError(
            f"--output {output}: an engine of {compiler.title} gives all outputs of its graph; "
            "leave it out, and cut the graph where it has several"
        )
    return trt.TrtBackend(model, threads, engine, report_progress, compiler)


BACKENDS = {name: _ort(name) for name in ort.PROVIDERS} | {
    "openvino": Runtime(open=openvino.OpenVinoBackend, here=openvino.openvino_here),
    "trt": _nvidia(TENSORRT),
    "trt-rtx": _nvidia(trt_rtx.TENSORRT_RTX),
}


def open_backend(
    name: str,
    model: Path,
    threads: int | None,
    engine: EngineOptions | None = None,
    report_progress: ProgressCallback = no_progress,
    output: str | None = None,
) -> Backend:
    """Open `model` in the runtime `name` with that many threads (None: the runtime's choice).

    `engine` says how a runtime that `builds` does so, and `report_progress` hears how far it is;
    `output` names the output that gives the logits, where several could.

    Raises:
        InputError: no such runtime, no classifier, or one whose data lie outside its folder.
        CapabilityError: the runtime is not here.
    """
    if name not in BACKENDS:
        raise InputError(f"--backend {name}: expected one of {', '.join(BACKENDS)}")
    # Before a runtime opens what the file names, be it a pipe or somebody else's file.
    model_files(model)
    runtime = BACKENDS[name]
    if runtime.builds:
        return runtime.open(model, threads, output, engine, report_progress)
    return runtime.open(model, threads, output)
