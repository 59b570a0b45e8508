"""The twin of an artefact: the same graph, and one more output with samples of its layers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_bench.explain.probe_file import OUTPUT

SAMPLES = 512
"""Values of each tensor: enough to see one in a hundred that moved."""
SEED = 20_250_339

FOLLOWS = ("Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "HardSigmoid", "BatchNormalization")
FUSED = (*FOLLOWS, "Add")
"""What a runtime fuses with the layer before it: between the two it may keep nothing."""
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SHAPES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout")
SHOWN = (
    *(*WEIGHTED, *FUSED, "Mul", "Concat", "Softmax"),
    *("GlobalAveragePool", "AveragePool", "MaxPool", "ReduceMean", "LayerNormalization"),
)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor that a graph is looked into at: its maker's name, and its step where quantised."""

    name: str
    layer: str
    step: float | None


def tensors_of(graph: onnx.GraphProto) -> list[Tensor]:
    """Where a graph is looked into, in the order in which it is computed.

    Of a quantised graph these are its activations once they are rounded, since a fused kernel keeps
    these alone; of others what layers end with. The logits are the last.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    next_ops = {name: node.op_type for node in graph.node for name in node.input}
    found: list[Tensor] = []
    rounded = [node for node in graph.node if _rounds_activation(node, constants)]
    for node in graph.node:
        if rounded and node in rounded:
            scale = numpy_helper.to_array(constants[node.input[1]])
            if scale.size == 1:
                layer = _layer(node.input[0], makers, constants)
                found.append(Tensor(name=node.output[0], layer=layer, step=float(scale)))
        elif not rounded and node.op_type in SHOWN:
            value = node.output[0]
            fused = readers[value] == 1 and next_ops[value] in FUSED
            if not fused and value not in {output.name for output in graph.output}:
                layer = _layer(value, makers, constants)
                found.append(Tensor(name=value, layer=layer, step=None))
    (logits, *_) = (output.name for output in graph.output)
    return [*found, Tensor(name=logits, layer="logits", step=None)]


def _rounds_activation(node: onnx.NodeProto, constants: dict[str, TensorProto]) -> bool:
    return (
        node.op_type == "DequantizeLinear"
        and node.input[0] not in constants
        and node.input[1] in constants
    )


def _layer(name: str, makers: dict[str, onnx.NodeProto], constants: dict[str, TensorProto]) -> str:
    """What computes a tensor, behind roundings, what only reshapes and what is fused with it.

    By its weights' name without its end (`network.layer1.0.conv1`), else the node's own, or the
    input's.
    """
    passed = ("QuantizeLinear", "DequantizeLinear", *SHAPES, *FOLLOWS)
    while (node := makers.get(name)) is not None and node.op_type in passed:
        name = node.input[0]
    if node is None:
        return name
    if node.op_type in WEIGHTED:
        for read in node.input:
            source = makers[read].input[0] if read in makers else read
            if source in constants:
                return str(source).removesuffix("_quantized").removesuffix(".weight")
    return node.name or name


def with_outputs(model: onnx.ModelProto, tensors: list[Tensor]) -> onnx.ModelProto:
    """A copy of the graph whose tensors are outputs as they are, to see their shapes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    for tensor in tensors:
        if tensor.name not in present:
            copy.graph.output.append(onnx.ValueInfoProto(name=tensor.name))
    return copy


def twin_of(model: onnx.ModelProto, tensors: list[Tensor], sizes: list[int]) -> onnx.ModelProto:
    """A copy of the graph with the output `probe` (B, K): the samples of one tensor after another.

    `sizes` are the tensors' values for one image. Which are taken follows from the sizes alone.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, parts = copy.graph, []
    graph.initializer.append(
        numpy_helper.from_array(np.array([0, -1], dtype=np.int64), "probe/rows")
    )
    for index, (tensor, size) in enumerate(zip(tensors, sizes, strict=True)):
        name = f"probe/{index}"
        graph.initializer.append(numpy_helper.from_array(chosen(size), f"{name}/chosen"))
        graph.node.extend(
            [
                helper.make_node("Reshape", [tensor.name, "probe/rows"], [f"{name}/flat"]),
                helper.make_node(
                    "Gather", [f"{name}/flat", f"{name}/chosen"], [f"{name}/some"], axis=1
                ),
                helper.make_node("Cast", [f"{name}/some"], [name], to=TensorProto.FLOAT),
            ]
        )
        parts.append(name)
    graph.node.append(helper.make_node("Concat", parts, [OUTPUT], axis=1, name=OUTPUT))
    columns = sum(len(chosen(size)) for size in sizes)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    shown = helper.make_tensor_value_info(
        OUTPUT, TensorProto.FLOAT, [batch.dim_value or batch.dim_param or "batch", columns]
    )
    graph.output.append(shown)
    return copy


def chosen(size: int) -> NDArray[np.int64]:
    """Which of a tensor's values are taken, sorted: all of them up to `SAMPLES`."""
    if size <= SAMPLES:
        return np.arange(size, dtype=np.int64)
    drawn = np.random.default_rng(SEED).choice(size, SAMPLES, replace=False)
    return np.sort(drawn).astype(np.int64)
