"""Measure an image classifier where it will run: accuracy under replayed attacks, latency, memory.

This package is the poorest environment's: it imports numpy, typer and psutil, plus one runtime
inside its backend. It owns the vocabulary (`spec`) and the file formats (`store`) that the
training side writes. Order of work: `bench` (measure) -> report file -> `gate` (decide).
"""

__version__ = "0.1.0"
