"""Measure an image classifier where it will run: accuracy under replayed attacks, latency, memory.

This package is the poorest environment's: it imports numpy, typer and psutil, plus one runtime
inside its backend. It owns the vocabulary (`core`) and the file formats (`files`) that the
training side writes. Order of work: `open_sets` -> `run` (measure) -> a report file ->
`read_report` -> `check` against a `Gate`. What is exported here is for programs to rely on; the
rest may change.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edge_bench.core.exports import lazily
from edge_bench.core.version import __version__

if TYPE_CHECKING:
    from edge_bench.core.gate import Gate as Gate
    from edge_bench.core.gate import Violation as Violation
    from edge_bench.core.spec import Report as Report
    from edge_bench.files.report_file import read_report as read_report
    from edge_bench.files.sets import open_sets as open_sets
    from edge_bench.files.store import write_json as write_json
    from edge_bench.options.bench import BenchOptions as BenchOptions
    from edge_bench.policy.gate import check as check
    from edge_bench.report.summary import summarise as summarise
    from edge_bench.runs.one_run import run as run

# onnxruntime reports its use to its makers unless this is set before it is imported. Who wants that
# sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "Gate": "edge_bench.core.gate",
    "Report": "edge_bench.core.spec",
    "Violation": "edge_bench.core.gate",
    "read_report": "edge_bench.files.report_file",
    "open_sets": "edge_bench.files.sets",
    "write_json": "edge_bench.files.store",
    "BenchOptions": "edge_bench.options.bench",
    "check": "edge_bench.policy.gate",
    "summarise": "edge_bench.report.summary",
    "run": "edge_bench.runs.one_run",
}
__all__ = ["__version__", *_HOMES]
__getattr__ = lazily(__name__, _HOMES)
