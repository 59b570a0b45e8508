"""What an engine of TensorRT for RTX says of itself: the compiler's own listing inside the file.

An engine holds its program as plain text: a descriptor with a type for each tensor, and a line for
each kernel with its inputs and the ONNX layers that it computes. TensorRT's inspector would tell
the same in JSON, but has to load the engine, which needs a GPU. The form is nobody's promise: this
reads that of 1.7, and a reader that no longer fits finds no layers, which the tests notice.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from math import prod

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
