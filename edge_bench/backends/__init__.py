"""Runtimes that can run an artefact; `registry` names them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_bench.backends.registry import BACKENDS as BACKENDS
from edge_bench.backends.registry import Opening
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.files.external_data import model_files
from edge_bench.files.seals.graph import require_as_sealed
from edge_bench.options.engine import EngineOptions

if TYPE_CHECKING:
    from edge_bench.backends.base import Backend


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
        InputError: no such runtime, no classifier, one whose data lie outside its folder, or one
            that is not what was exported.
        CapabilityError: the runtime is not here.
    """
    if name not in BACKENDS:
        raise InputError(f"--backend {name}: expected one of {', '.join(BACKENDS)}")
    # Before a runtime opens what the file names, be it a pipe or somebody else's file.
    model_files(model)
    require_as_sealed(model)
    return BACKENDS[name].open(
        Opening(
            name=name,
            model=model,
            threads=threads,
            output=output,
            engine=engine or EngineOptions(),
            report_progress=report_progress,
        )
    )
