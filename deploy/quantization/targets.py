"""How each runtime wants its integers, and which of them this machine would run best."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxruntime.quantization import QuantType

from edge_bench import devices
from edge_bench.backends.engine import RefusedError, read_network
from edge_bench.backends.nvidia import TENSORRT, Compiler, bindings_of
from edge_bench.backends.trt_rtx import TENSORRT_RTX
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.devices.generic import vnni_flags


@dataclass(frozen=True, kw_only=True)
class Target:
    """How a runtime wants its integers.

    Attributes:
        activations, weights: integer types.
        reduce_range: 7-bit weights, where 8-bit products would saturate.
        extra: ONNX Runtime's further options.
        session_options: what its sessions are opened with, here and on the device.
        compilers: NVIDIA's, whose parsers read its artefacts; the first that is here is asked.
        why: for people.
    """

    activations: QuantType
    weights: QuantType
    reduce_range: bool
    extra: dict[str, Any]
    session_options: dict[str, str]
    compilers: tuple[Compiler, ...] = ()
    why: str


# By default ONNX Runtime keeps signed activations on Arm ("1") and rewrites them as unsigned ones
# elsewhere ("0", before it fuses: QDQS8ToU8Transformer), so that one S8S8 file becomes two graphs,
# which on a ResNet-18 lie three steps of its logits apart. To have no default says which.
KEEP_SIGNED = {"session.qdqisint8allowed": "1"}
REWRITE_SIGNED = {"session.qdqisint8allowed": "0"}
# Round where the pairs stand and compute in float between them, as the graph is written.
AS_WRITTEN = {"session.disable_quant_qdq": "1"}

_TENSORRT = Target(
    activations=QuantType.QInt8,
    weights=QuantType.QInt8,
    reduce_range=False,
    extra={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    # It ships in TensorRT. ONNX Runtime only checks it, and fits its integer kernels to a few of
    # the layers alone: as written is closer to what TensorRT computes, and faster.
    session_options=AS_WRITTEN,
    # Both have one parser, of NVIDIA's onnx-tensorrt.
    compilers=(TENSORRT, TENSORRT_RTX),
    why="signed, zero points of 0, no int32 biases",
)

TARGETS: dict[str, Target] = {
    "x86": Target(
        activations=QuantType.QUInt8,
        weights=QuantType.QInt8,
        reduce_range=True,
        extra={},
        session_options=REWRITE_SIGNED,
        why="unsigned activations, 7-bit weights: AVX2 saturates on 8-bit ones",
    ),
    "x86-vnni": Target(
        activations=QuantType.QUInt8,
        weights=QuantType.QInt8,
        reduce_range=False,
        extra={},
        session_options=REWRITE_SIGNED,
        why="unsigned activations, full 8-bit weights: VNNI does not saturate",
    ),
    "arm": Target(
        activations=QuantType.QInt8,
        weights=QuantType.QInt8,
        reduce_range=False,
        extra={},
        session_options=KEEP_SIGNED,
        why="signed activations and weights",
    ),
    "tensorrt": _TENSORRT,
    "tensorrt-rtx": replace(_TENSORRT, compilers=(TENSORRT_RTX, TENSORRT)),
}


def target_named(name: str) -> Target:
    """Look a target up.

    Raises:
        InputError: no such target.
    """
    if name not in TARGETS:
        raise InputError(f"--target {name}: expected auto or one of {', '.join(TARGETS)}")
    return TARGETS[name]


def parser_of(target: str) -> tuple[Compiler, str] | None:
    """The compiler that is here whose parser reads artefacts for `target`, and its version."""
    for compiler in target_named(target).compilers:
        try:
            return compiler, bindings_of(compiler).__version__
        except CapabilityError:
            continue
    return None


def require_parsed(path: Path, target: str) -> str | None:
    """Have the parser that is here for `target` read an artefact; its name, None where none is.

    Raises:
        InputError: it refuses.
    """
    found = parser_of(target)
    if found is None:
        return None
    compiler, version = found
    try:
        read_network(path, compiler)
    except RefusedError as error:
        raise InputError(
            f"--target {target}: {compiler.title} {version}, which is here, cannot read the "
            f"artefact ({error.why}), so nothing was written; report it with the architecture, or "
            "leave --target out to write it for another runtime"
        ) from None
    return f"{compiler.title} {version}"


def target_here(root: Path = devices.ROOT, machine: str | None = None) -> tuple[str, str]:
    """The target of the machine that this runs on, and what was seen of it.

    Args:
        root: of the file system, so that recorded trees can be read.
        machine: the architecture, in the kernel's words; None asks the system.

    Raises:
        InputError: an architecture that no target is for.
    """
    machine = (machine or platform.machine()).lower()
    board = devices.probe("auto", root)
    if board.device == "jetson":
        return "tensorrt", f"a Jetson ({board.board or 'by its device tree'})"
    if machine in ("aarch64", "arm64", "armv7l", "armv8l"):
        return "arm", f"the architecture is {machine}"
    if machine not in ("x86_64", "amd64", "i686"):
        raise InputError(
            f"--target auto: no target is known for the architecture {machine}; name one of "
            f"{', '.join(TARGETS)}"
        )
    found = vnni_flags(root)
    if found is None:
        return "x86", f"{machine}, whose processor's flags cannot be read here"
    if found:
        return "x86-vnni", f"{machine} with {found[0]}"
    return "x86", f"{machine} without VNNI"
