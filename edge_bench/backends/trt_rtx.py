"""TensorRT for RTX: engines for GPUs from Turing on, made ahead of time where no GPU need be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edge_bench.backends.engine import build_engine, tensorrt_here
from edge_bench.backends.engine_cache import (
    SUFFIX,
    EngineRecord,
    engine_key,
    record_path,
    write_engine,
)
from edge_bench.backends.gpu import sm_of
from edge_bench.backends.nvidia import Compiler, require_tensorrt
from edge_bench.backends.registry import Opening
from edge_bench.backends.trt import TrtBackend, opened_by, outside_of
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.files.store import refuse_existing_file
from edge_bench.options.engine import EngineOptions


def _aim(trt: Any, config: Any, capabilities: tuple[str, ...]) -> None:
    """Have the engine built for these; see `Compiler`."""
    if missing := set(capabilities) - set(known_capabilities(trt).values()):
        raise CapabilityError(
            f"--backend trt-rtx: TensorRT for RTX {trt.__version__} builds for "
            f"{', '.join(known_capabilities(trt))}, and this GPU is "
            f"{', '.join(map(sm_of, missing))}; take --backend trt"
        )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(
            getattr(trt.ComputeCapability, sm_of(capability).upper()), index
        )


TENSORRT_RTX = Compiler(
    backend="trt-rtx",
    title="TensorRT for RTX",
    # Of NVIDIA's packages the first brings nothing but another name for the second.
    modules=("tensorrt_rtx", "tensorrt_rtx_bindings"),
    # The oldest that this was run with.
    oldest=(1, 7),
    bring="pip install 'ardx[tensorrt-rtx]' (Linux on x86-64 or aarch64, or Windows)",
    update="update it: pip install --upgrade 'ardx[tensorrt-rtx]'",
    extra="tensorrt-rtx",
    aim=_aim,
)


def build_ahead(
    onnx: Path,
    out: Path,
    wanted: str,
    options: EngineOptions,
    *,
    force: bool,
    report_progress: ProgressCallback = no_progress,
) -> EngineRecord:
    """Write the engine of `onnx` for the compute capabilities `wanted`, such as `sm86,sm120`.

    Its record is written beside it. Seconds; no GPU is needed.

    Raises:
        InputError: no such capability, no such graph, or a file that is there.
        CapabilityError: no TensorRT for RTX, or no kernels for the graph there.
    """
    if out.suffix != SUFFIX:
        raise InputError(f"--out {out}: expected a file name that ends in {SUFFIX}")
    refuse_existing_file(out, force)
    refuse_existing_file(record_path(out), force)
    outside, card = outside_of(onnx)
    trt = require_tensorrt(TENSORRT_RTX)
    key = engine_key(
        onnx,
        trt.__version__,
        None,
        outside,
        options,
        compiler=TENSORRT_RTX.title,
        capabilities=capabilities_of(wanted, trt),
    )
    cache = options.cache.expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    timing = cache / key.timing_file()
    engine = build_engine(onnx, key, outside, timing, report_progress, TENSORRT_RTX)
    return write_engine(out, engine, key, onnx.name, outside, card)


def capabilities_of(text: str, trt: Any) -> tuple[str, ...]:
    """`("8.6", "12.0")` of `sm120,sm86`.

    Raises:
        InputError: another form, or one that this version does not know.
    """
    names = [part.strip().lower() for part in text.split(",")]
    known = known_capabilities(trt)
    for name in names:
        if name not in known:
            raise InputError(
                f"--for {text}: expected names of compute capabilities with commas, of "
                f"{', '.join(known)}, came {name or 'nothing'}; nvidia-smi "
                "--query-gpu=compute_cap --format=csv tells that of a GPU (8.6 is sm86)"
            )
    return tuple(known[name] for name in known if name in names)


def known_capabilities(trt: Any) -> dict[str, str]:
    """By name (`sm86`) what this version can build for (`8.6`), the oldest first."""
    digits = [name[2:] for name in dir(trt.ComputeCapability) if re.fullmatch(r"SM\d+", name)]
    found = [f"{both[:-1]}.{both[-1]}" for both in sorted(digits, key=int)]
    return {sm_of(capability): capability for capability in found}


def opened(opening: Opening) -> TrtBackend:
    """Open an artefact as an engine of TensorRT for RTX."""
    return opened_by(TENSORRT_RTX, opening)


def here(name: str) -> str:
    """The version of TensorRT for RTX, and the GPU."""
    return tensorrt_here(TENSORRT_RTX)
