"""The machine and the code, as every line of the suite names them."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.lines import ROOT, Line
from edge_bench import devices
from edge_bench.devices.generic import read_text

MEASURED = ("ard", "deploy", "edge_bench", "benchmarks")
"""Where a change may change a figure."""
PACKAGES = (
    *("numpy", "onnxruntime", "openvino", "torch", "nncf", "onnx", "typer"),
    *("torchattacks", "foolbox", "pyautoattack", "mlcommons-loadgen"),
)
SETS = (
    ("AMX", ("amx_int8",)),
    ("AVX512-VNNI", ("avx512_vnni",)),
    ("AVX-VNNI", ("avx_vnni",)),
    ("AVX512", ("avx512f",)),
    ("AVX2", ("avx2",)),
    ("Neon, i8mm", ("i8mm",)),
    ("Neon, dot products", ("asimddp",)),
)
"""Kinds of machines by what decides their speed, the richest first, and their flags in cpuinfo."""


def kind(root: Path = devices.ROOT) -> str:
    """The instruction sets by which columns are told apart."""
    have = flags(root)
    return next((name for name, needed in SETS if have.issuperset(needed)), platform.machine())


def flags(root: Path = devices.ROOT) -> set[str]:
    """What the processor says that it can do; nothing where no Linux lists it."""
    text = read_text(root / "proc/cpuinfo") or ""
    return {
        flag
        for line in text.splitlines()
        if line.partition(":")[0].strip() in ("flags", "Features")
        for flag in line.partition(":")[2].split()
    }


def has_bf16(root: Path = devices.ROOT) -> bool:
    """Does it multiply bfloat16 in hardware?"""
    return not flags(root).isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def about() -> Line:
    """Processor, instruction sets, cores and versions."""
    return {
        "kind": kind(),
        "bf16": has_bf16(),
        "processor": devices.probe("local").cpu or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def load() -> float:
    """Processes that wanted a core over the last minute, ours among them."""
    return round(os.getloadavg()[0], 2)


def code() -> str:
    """The last commit that touched what is measured, with a plus where files were changed since.

    A commit of lines alone leaves it as it was, so that a stopped run goes on.
    """
    last = _git("log", "-1", "--format=%h", "--abbrev=10", "--", *MEASURED)
    changed = _git("status", "--porcelain", "--", *MEASURED)
    return (last or "unknown") + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
