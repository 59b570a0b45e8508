"""What this process runs on and has used."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np

from edge_bench.core.version import __version__
from edge_bench.devices.generic import read_text


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far.

    Linux's getrusage carries over the size of the process that started this one, so the kernel's
    own high-water mark of this address space comes first.
    """
    for line in (read_text(Path("/proc/self/status")) or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def runtime_versions() -> dict[str, str]:
    """Versions that a set or report should name."""
    return {"python": platform.python_version(), "numpy": np.__version__, "ardx": __version__}
