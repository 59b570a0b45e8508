"""Which nodes share one precision."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from deploy.lowering.layers import layers_of, name_nodes

OP_TYPES = ("Conv", "Relu", "Add", "Reshape", "Gemm")


def residual() -> onnx.GraphProto:
    """x -> conv a -> relu -> conv b -> (+ relu's) -> relu -> exp -> reshape -> gemm."""

    def node(kind: str, reads: list[str], writes: str) -> onnx.NodeProto:
        return helper.make_node(kind, reads, [writes], name=f"n_{writes}")

    weights = {"net.a.weight": (4, 3, 1, 1), "net.b.weight": (4, 4, 1, 1), "net.fc.weight": (4, 5)}
    constants = [
        numpy_helper.from_array(np.zeros(shape, dtype=np.float32), name)
        for name, shape in weights.items()
    ]
    constants.append(numpy_helper.from_array(np.array([0, -1]), "shape"))
    nodes = [
        node("Conv", ["x", "net.a.weight"], "a"),
        node("Relu", ["a"], "ra"),
        node("Conv", ["ra", "net.b.weight"], "b"),
        node("Add", ["b", "ra"], "sum"),
        node("Relu", ["sum"], "rs"),
        node("Exp", ["rs"], "e"),
        node("Reshape", ["e", "shape"], "flat"),
        node("Gemm", ["flat", "net.fc.weight"], "logits"),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 2, 2])
    return helper.make_graph(nodes, "g", [x], [], initializer=constants)


def test_what_alone_follows_a_layer_belongs_to_it() -> None:
    found = {layer.name: layer.nodes for layer in layers_of(residual(), OP_TYPES)}
    assert found == {
        "net.a": ("n_a", "n_ra"),
        # Its sum is another layer: it reads two.
        "net.b": ("n_b",),
        "n_sum": ("n_sum", "n_rs"),
        # What it follows has no precision to choose.
        "n_flat": ("n_flat",),
        "net.fc": ("n_logits",),
    }


def test_an_activation_that_is_not_the_only_reader_is_a_layer_of_its_own() -> None:
    graph = residual()
    graph.node[3].input[1] = "a"
    names = [layer.name for layer in layers_of(graph, OP_TYPES)]
    assert names == ["net.a", "n_ra", "net.b", "n_sum", "n_flat", "net.fc"]


def test_only_nodes_of_the_given_types_have_a_precision() -> None:
    assert [layer.name for layer in layers_of(residual(), ("Gemm",))] == ["net.fc"]


def test_nodes_without_a_name_or_with_another_s_get_one_of_their_own() -> None:
    graph = residual()
    graph.node[0].name = ""
    graph.node[2].name = graph.node[1].name
    name_nodes(graph)
    names = [node.name for node in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert names[1] == "n_ra"
