"""Layers of an ONNX graph, as units whose precision can be chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import onnx


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Nodes that share one precision: one that computes, and what follows from it alone.

    Attributes:
        name: the weights' name without its end (`network.layer1.0.conv1`), or the node's own.
        nodes: names of its nodes, in the graph's order.
    """

    name: str
    nodes: tuple[str, ...]


def layers_of(graph: onnx.GraphProto, op_types: Collection[str]) -> list[Layer]:
    """The layers of a graph, in its order, among nodes of `op_types` (with names).

    A node without weights that reads one activation (ReLU, Clip, Reshape, pooling) belongs to the
    layer that computes it, where nobody else reads it: between them nothing is rounded that
    matters, and a fused kernel runs both.
    """
    constants = {tensor.name for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    layers: list[tuple[str, list[str]]] = []
    layer_of_value: dict[str, int] = {}
    for node in graph.node:
        if node.op_type not in op_types:
            continue
        read = [name for name in node.input if name and name not in constants]
        follows = layer_of_value.get(read[0]) if len(read) == 1 else None
        if follows is not None and not _weights(node, constants) and readers[read[0]] == 1:
            index = follows
            layers[index][1].append(node.name)
        else:
            index = len(layers)
            layers.append((_label(node, constants), [node.name]))
        layer_of_value |= dict.fromkeys(node.output, index)
    return [Layer(name=name, nodes=tuple(nodes)) for name, nodes in layers]


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name that no other node has, since a choice of nodes is one of names."""
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}_unnamed_{index}"
        taken.add(node.name)


WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _weights(node: onnx.NodeProto, constants: set[str]) -> str | None:
    """The name of a node's weights."""
    if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in constants:
        return str(node.input[1])
    return None


def _label(node: onnx.NodeProto, constants: set[str]) -> str:
    weights = _weights(node, constants)
    return weights.removesuffix(".weight") if weights else str(node.name)
