"""What an engine of TensorRT for RTX says of itself: the compiler's own listing inside the file.

An engine holds its program as plain text: a descriptor with a type for each tensor, and a line for
each kernel with its inputs and the ONNX layers that it computes. TensorRT's inspector would tell
the same in JSON, but has to load the engine, which needs a GPU. The form is nobody's promise: this
reads that of 1.7, and a reader that no longer fits finds no layers, which the tests notice.

    python -m benchmarks.tensorrt.account student-int8.onnx sm86
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any

from edge_bench.backends.engine import RefusedError, read_network
from edge_bench.backends.trt_rtx import TENSORRT_RTX, build_ahead
from edge_bench.core.errors import CapabilityError
from edge_bench.options.engine import EngineOptions

TENSOR = re.compile(r"tensor=\{[^\n]*\}")
KERNEL = re.compile(r"\n  (\w+)=\{ (name=[^\n]*)\}")
MULTIPLYING = ("corrltn", "fully_connected")
"""Kernels that multiply images by weights; others scale, round or sum what those give."""
WEIGHTED = ("Conv", "Gemm", "MatMul")
"""ONNX operators that have weights."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """An engine as its compiler lists it.

    Attributes:
        capabilities: for which it is, such as `sm86`.
        tf32: may float32 be computed in TF32?
        layers: type of the input (`int8`, `half`, `float`) by the ONNX node of each layer.
        weights: bytes of constants of two dimensions and more, by their type.
    """

    capabilities: tuple[str, ...]
    tf32: bool
    layers: dict[str, str]
    weights: dict[str, int]

    def count(self, kind: str) -> int:
        """Layers whose input is of this type."""
        return sum(found == kind for found in self.layers.values())


def read_account(engine: bytes, nodes: Collection[str]) -> Account:
    """The account of an engine; `nodes` are the ONNX names of the layers that have weights."""
    text = engine.decode("latin-1")
    types: dict[str, str] = {}
    weights: dict[str, int] = {}
    for descriptor in TENSOR.findall(text):
        name, kind = _field(r' name="([^"]*)"', descriptor), _field(r"type=(\w+)", descriptor)
        size = re.search(r"const_payload_size=(\d+)", descriptor)
        sizes = _field(r"dims=\{([^}]*)\}", descriptor).split()
        if size is None and len(sizes) > 1:
            types[name] = kind
        elif size is not None and sum(each != "1" for each in sizes) > 1:
            assert prod(map(int, sizes)) <= int(size[1])
            weights[kind] = weights.get(kind, 0) + int(size[1])
    layers: dict[str, str] = {}
    for kind, kernel in KERNEL.findall(text):
        inputs = [
            name
            for listed in re.findall(r"(?:input|input_args)=\{([^}]*)\}", kernel)
            for name in re.findall(r'"([^"]*)"', listed)
        ]
        images = [types[name] for name in inputs if name in types]
        for node in set(re.findall(r"\[ONNX Layer: ([^\]]*)\]", kernel)) & set(nodes):
            if images and (kind in MULTIPLYING or node not in layers):
                layers[node] = images[0]
    named = re.search(r"accelerators=\{((?:sm\d+ ?)+)\}", text)
    return Account(
        capabilities=tuple(named[1].split()) if named else (),
        tf32="tf32=0" not in text,
        layers=layers,
        weights=weights,
    )


def _field(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


def measure(path: str, capability: str) -> dict[str, Any]:
    """Parse and build one file for one capability, and tell how it went.

    After a build that failed a process must build no other: give each call a process of its own.
    """
    onnx = Path(path)
    nodes = [node.name for node in read_graph(path) if node.op_type in WEIGHTED]
    with tempfile.TemporaryDirectory() as folder:
        out, options = Path(folder) / "an.engine", EngineOptions(cache=Path(folder))
        try:
            read_network(onnx, TENSORRT_RTX)
        except RefusedError as error:
            return {"parsed": False, "error": error.why}
        begun = perf_counter()
        try:
            build_ahead(onnx, out, capability, options, force=False)
        except CapabilityError as error:
            return {"parsed": True, "built": False, "error": str(error).partition(" (")[2]}
        seconds, engine = perf_counter() - begun, out.read_bytes()
    account = read_account(engine, nodes)
    found = asdict(account) | {"layers": Counter(account.layers.values())}
    return found | {
        "parsed": True,
        "built": True,
        "seconds": round(seconds, 2),
        "engine_bytes": len(engine),
        "weighted": len(nodes),
    }


def read_graph(path: str) -> Any:
    """The nodes of an ONNX file."""
    import onnx

    return onnx.load(path).graph.node


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
