"""`ardx bench` in a process that notes each call of a runtime, and can be killed at one of them.

LOG=FILE [KILL=BACKEND:NUMBER] python bench_child.py bench MODEL ...

Kills its whole process group, as a power cut would, instead of that backend's call NUMBER (from
0). Processes that it spawns read this file too, so they do the same.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from edge_bench.backends.openvino import OpenVinoBackend
from edge_bench.backends.ort import OrtBackend

LOG = Path(os.environ["LOG"])
KILLED, _, NUMBER = os.environ.get("KILL", "").partition(":")


def watch(backend: type[Any], name: str) -> None:
    infer: Callable[..., Any] = backend.infer
    numbers = count()

    def watched(self: Any, batch: Any) -> Any:
        if next(numbers) == (int(NUMBER) if name == KILLED else -1):
            os.killpg(0, signal.SIGKILL)
        with LOG.open("a") as file:
            file.write(f"{name}\n")
        return infer(self, batch)

    backend.infer = watched


watch(OrtBackend, "ort")
watch(OpenVinoBackend, "openvino")

if __name__ == "__main__":
    from edge_bench.cli import app

    app()
