"""What a case of an operator is, and the shapes in which cases come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from tests.deploy.reading.graphs import node

NEWEST = 22
"""The newest opset that the runtimes of all supported versions read here."""


def drawn(*shape: int, seed: int = 3, low: float = -1.0) -> Any:
    return np.random.default_rng(seed).uniform(low, 1.0, shape).astype(np.float32)


def whole(*values: int) -> Any:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """Nodes from `z` (the images, moved to -1..1) or `images` to `y`."""

    nodes: Sequence[onnx.NodeProto]
    constants: dict[str, Any] = field(default_factory=dict)
    opsets: tuple[int, ...] = (9, 13, NEWEST)
    smooth: bool = True
    step: float = 0.0  # of rounded values: float sums round either way where integer ones tie

    @property
    def name(self) -> str:
        main = self.nodes[-1] if self.nodes[-1].op_type != "Mul" else self.nodes[0]
        stated = "-".join(f"{a.name}" for a in main.attribute)
        return f"{main.op_type}-{stated}" if stated else str(main.op_type)


def unary(operator: str, opsets: tuple[int, ...] = (9, 13, NEWEST), **attributes: Any) -> Case:
    return Case([node(operator, "z", **attributes)], opsets=opsets)


def positive(operator: str) -> Case:
    return Case([node("Add", "images one", "p"), node(operator, "p")], {"one": np.float32(0.5)})


def binary(operator: str, opsets: tuple[int, ...] = (9, 13, NEWEST)) -> Case:
    return Case([node(operator, "z other")], {"other": drawn(3, 1, 5)}, opsets)


def reduction(operator: str, source: str = "z", **attributes: Any) -> list[Case]:
    """Axes as an attribute before opset 18 (13 of ReduceSum), and as an input since."""
    change = 13 if operator == "ReduceSum" else 18
    old = tuple(version for version in (9, 11, 13, 17) if version < change)
    new = tuple(version for version in (13, 18, NEWEST) if version >= change)
    parts = [node("Add", "images half", "p")] if source == "p" else []
    known: dict[str, Any] = {"half": np.float32(0.5)} if source == "p" else {}
    return [
        Case([*parts, node(operator, source, axes=[1, -1], **attributes)], known, old),
        Case(
            [*parts, node(operator, f"{source} axes", **attributes)],
            known | {"axes": whole(1, -1)},
            new,
        ),
    ]


def convolution(*more: str, kernel: tuple[int, int] = (3, 3), **attributes: Any) -> Case:
    """Of six channels out; `more` names the bias where there is one."""
    groups = attributes.get("group", 1)
    constants = {"w": drawn(6, 3 // groups, *kernel)}
    if more:
        constants["b"] = drawn(6)
    return Case([node("Conv", " ".join(["z", "w", *more]), **attributes)], constants)


def pooling(operator: str, opsets: tuple[int, ...] = (9, 11, NEWEST), **attributes: Any) -> Case:
    return Case([node(operator, "z", **({"kernel_shape": [3, 2]} | attributes))], opsets=opsets)


def resized(
    scales: tuple[float, ...] | None, sizes: tuple[int, ...] = (), **attributes: Any
) -> Case:
    known: dict[str, Any] = {"region": np.zeros(0, np.float32)}
    inputs = "z region scales"
    known["scales"] = np.array(scales or [], np.float32)
    if sizes:
        known["sizes"] = whole(*sizes)
        inputs += " sizes"
    return Case([node("Resize", inputs, **attributes)], known, (11, 13, NEWEST))


def normalised() -> Case:
    known = {name: drawn(3, seed=i) for i, name in enumerate("sbm")}
    known["v"] = drawn(3, seed=9, low=0.2)
    nodes = [node("BatchNormalization", "z s b m v", epsilon=1e-3)]
    return Case(nodes, known, (7, 9, 14, NEWEST))


def quantised(kind: Any, zero: int) -> Case:
    known = {"scale": np.float32(1 / 100), "zero": kind(zero)}
    nodes = [node("QuantizeLinear", "z scale zero", "q"), node("DequantizeLinear", "q scale zero")]
    return Case(nodes, known, (10, 13, NEWEST), smooth=False)
