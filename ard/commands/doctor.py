"""What an environment can and cannot do, found by trying."""

from __future__ import annotations

import importlib
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from edge_bench import devices
from edge_bench.backends import BACKENDS
from edge_bench.core.errors import CapabilityError, first_line
from edge_bench.core.version import __version__
from edge_bench.pictures.pipelines import PIPELINES

MIN_FREE_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One capability: what was found (None: not there) and the command that mends it."""

    capability: str
    found: str | None
    mend: str | None


def examine() -> list[Finding]:
    """Every capability, in the order of the stages that need it."""
    train = "pip install 'ardx[train]'"
    return [
        Finding(
            capability="ardx on Python",
            found=f"{__version__} on {platform.python_version()}, {platform.machine()}",
            mend=None,
        ),
        _module("teach, distill, evaluate, attack: torch", "torch", train),
        _module("  datasets and architectures: torchvision", "torchvision", train),
        _module("  digits and stratified splits: scikit-learn", "sklearn", train),
        _module("  weights: safetensors", "safetensors", train),
        _module("  evaluate autoattack: pyautoattack", "pyautoattack", train),
        _cuda(),
        _module("export: onnx", "onnx", train),
        _module("  torch's exporter: onnxscript", "onnxscript", train),
        *map(_backend, BACKENDS),
        *map(_pipeline, PIPELINES),
        _device(),
        _target(),
        _parser(),
        _disk(),
    ]


def _module(capability: str, name: str, mend: str) -> Finding:
    try:
        version = getattr(importlib.import_module(name), "__version__", "present")
    except Exception as error:
        # A package that is there but broken raises anything; that is what a doctor looks for.
        reason = None if isinstance(error, ModuleNotFoundError) else f"broken: {first_line(error)}"
        return Finding(capability=capability, found=reason, mend=mend)
    return Finding(capability=capability, found=str(version), mend=None)


def _cuda() -> Finding:
    capability = "  training on a GPU: CUDA"
    try:
        import torch

        here = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    except Exception:  # As in `_module`, whose line for torch says what is wrong.
        return Finding(capability=capability, found=None, mend="install torch first")
    if here is not None:
        return Finding(capability=capability, found=here, mend=None)
    return Finding(
        capability=capability, found=None, mend="none needed: the CPU works, only slower"
    )


def _backend(name: str) -> Finding:
    capability = f"bench --backend {name}"
    try:
        return Finding(capability=capability, found=BACKENDS[name].here(name), mend=None)
    except CapabilityError:
        # The whole sentence, which bench gives, would leave the table's other columns no room.
        return Finding(capability=capability, found=None, mend=BACKENDS[name].mend)


def _pipeline(name: str) -> Finding:
    capability = f"  bench --pictures --pipeline {name}"
    return _module(capability, PIPELINES[name].package.module, PIPELINES[name].mend)


def _device() -> Finding:
    profile = devices.probe("auto")
    board = profile.board or profile.cpu or "unnamed machine"
    return Finding(capability="  bench --device", found=f"{profile.device} ({board})", mend=None)


def _target() -> Finding:
    capability = "  export --int8 --target auto"
    try:
        from deploy.quantization.targets import target_here

        target, seen = target_here()
    except Exception:  # As in `_module`: a broken onnx, or a processor that no target is for.
        return Finding(capability=capability, found=None, mend="name a --target")
    return Finding(capability=capability, found=f"{target} ({seen})", mend=None)


def _parser() -> Finding:
    capability = "  export --target tensorrt, tensorrt-rtx: its parser; engine"
    mend = "pip install 'ardx[tensorrt-rtx]' (Linux; no GPU needed)"
    try:
        from deploy.quantization.targets import parser_of

        found = parser_of("tensorrt-rtx")
    except Exception:  # As in `_module`.
        found = None
    if found is None:
        return Finding(capability=capability, found=None, mend=mend)
    return Finding(capability=capability, found=f"{found[0].title} {found[1]}", mend=None)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    enough = free >= MIN_FREE_BYTES
    return Finding(
        capability="disk space here",
        found=f"{free / 2**30:.1f} GiB free",
        mend=None if enough else "free 1 GiB or run elsewhere",
    )
