"""Runtimes that can run an artefact. To add one: a file here and an entry in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_bench.backends import ort
from edge_bench.backends.base import Backend
from edge_bench.errors import InputError

BACKENDS: dict[str, Callable[[Path, int | None], Backend]] = {"ort": ort.OrtBackend}


def open_backend(name: str, model: Path, threads: int | None) -> Backend:
    """Open `model` in the runtime `name` with that many threads (None: the runtime's choice)."""
    if name not in BACKENDS:
        raise InputError(f"--backend {name}: expected one of {', '.join(BACKENDS)}")
    return BACKENDS[name](model, threads)
