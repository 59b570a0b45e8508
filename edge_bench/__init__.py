"""Measure an image classifier where it will run: accuracy under replayed attacks, latency, memory.

This package is the poorest environment's: it imports numpy, typer and psutil, plus one runtime
inside its backend. It owns the vocabulary (`spec`) and the file formats (`store`) that the
training side writes. Order of work: `bench` (measure) -> report file -> `report.gate` (decide).

    commands    the command lines, which call
    remote      the same on another machine, over ssh
    bench       one run: on what (`devices`), in which runtime (`backends`), what is asked of it
                (`replay`, `square`, `timing`), and what sensors say meanwhile (`telemetry`)
    report      figures, doubts, comparisons and the gate, from the report file alone
    sets, bundle, journal, store    files
"""

import os

# onnxruntime reports its use to its makers unless this is set before it is imported. Who wants that
# sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.2.0.dev0"
