"""Where a QDQ graph rounds: nowhere that it need not. The passes take roundings away and add none.

Logits are what a graph is asked for, and nothing computes with them in integers, so they stay as
the last layer sums them up. Rounded to 256 levels they tie: classes change for nothing, and attacks
by scores see steps.

For TensorRT a graph rounds at the inputs of its weighted layers, not inside a kernel. ONNX
Runtime's quantiser puts a pair of QuantizeLinear and DequantizeLinear behind every operator. Where
integers are unsigned or asymmetric it then drops ReLU and Clip, which saturation implies. TensorRT
wants zero points of 0, where it does not: convolution, activation and residual addition stay apart,
each rounded on its own, although TensorRT has one kernel for the three. Its placement
recommendations (developer guide, "Explicit Quantization": do not quantise the outputs of weighted
operations, quantise the residual input of a skip connection) are two of these passes; it wants
constants in integers before weighted layers alone.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx

from deploy.lowering.graph import attributes, constants, dequantised, set_constant, tidy

ACTIVATIONS = ("Relu", "Clip")
WEIGHTED = ("Conv", "Gemm", "MatMul")
"""Layers whose weights stay integers. No transposed convolution: its kernels want a scale for each
input channel (NVIDIA/TensorRT, issue 2380), and ONNX Runtime gives each output channel one."""


def place(path: Path, *, for_tensorrt: bool) -> None:
    """Rewrite the QDQ file in place: float logits, and for TensorRT what it can fuse joined."""
    model = onnx.load(path)
    free_output(model.graph)
    if for_tensorrt:
        join_activations(model.graph)
        join_additions(model.graph)
        free_constants(model.graph)
    tidy(model.graph)
    onnx.save(model, path)


def free_output(graph: onnx.GraphProto) -> bool:
    """Drop the pair that rounds the graph's output; tell whether there was one."""
    makers, output = _makers(graph), graph.output[0].name
    pair = _pair(makers, output)
    if pair is None:
        return False
    quantize, dequantize = pair
    source = makers.get(quantize.input[0])
    readers = Counter(name for node in graph.node for name in node.input)
    names = (quantize.input[0], quantize.output[0])
    if source is None or any(readers[name] != 1 for name in names):
        return False
    source.output[:] = [output if name == names[0] else name for name in source.output]
    graph.node.remove(dequantize)
    graph.node.remove(quantize)
    return True


def join_activations(graph: onnx.GraphProto) -> int:
    """Drop each pair between an operator and the ReLU or Clip that alone reads it; count them.

    The activation reads what was computed, not what was rounded; its output is rounded as before.
    """
    joined = 0
    for node in list(graph.node):
        if node.op_type in ACTIVATIONS:
            joined += _drop_pair(graph, node, 0)
    return joined


def join_additions(graph: onnx.GraphProto) -> int:
    """Drop one pair per addition of two rounded tensors; count them.

    It is that of the first operand which a convolution computes for this addition alone (a block's
    main branch); the other operand, the residual input, stays rounded.
    """
    joined = 0
    for node in list(graph.node):
        if node.op_type != "Add":
            continue
        makers = _makers(graph)
        if not all(_is(makers.get(name), "DequantizeLinear") for name in node.input):
            continue
        for index in range(len(node.input)):
            if _drop_pair(graph, node, index, behind="Conv"):
                joined += 1
                break
    return joined


def free_constants(graph: onnx.GraphProto) -> int:
    """Write constants that no weighted layer reads as floats, of the same values; count them.

    Such as the factor of a product: TensorRT reads it in integers, and then can build no engine.
    """
    known = constants(graph)
    freed = 0
    for node in list(graph.node):
        readers = [each for each in graph.node if set(node.output) & set(each.input)]
        quantised = _is(node, "DequantizeLinear") and node.input[0] in known
        if not quantised or any(each.op_type in WEIGHTED for each in readers):
            continue
        levels, scale, zero_point = (known[name] for name in node.input)
        value = dequantised(levels, scale, zero_point, attributes(node).get("axis", 1))
        name = set_constant(graph, f"{node.name}.value", value)
        for reader in readers:
            reader.input[:] = [name if each in node.output else each for each in reader.input]
        graph.node.remove(node)
        freed += 1
    return freed


def _drop_pair(
    graph: onnx.GraphProto, reader: onnx.NodeProto, index: int, behind: str | None = None
) -> bool:
    """Let `reader` read past the pair at its input `index`, if nothing else reads in between.

    Args:
        behind: op type that must have computed what the pair rounds; None accepts any node.
    """
    makers = _makers(graph)
    readers = Counter(name for node in graph.node for name in node.input)
    pair = _pair(makers, reader.input[index])
    if pair is None:
        return False
    quantize, dequantize = pair
    source = makers.get(quantize.input[0])
    if source is None or (behind is not None and source.op_type != behind):
        return False
    names = (quantize.input[0], quantize.output[0], dequantize.output[0])
    outputs = {value.name for value in graph.output}
    if any(readers[name] != 1 or name in outputs for name in names):
        return False
    reader.input[index] = quantize.input[0]
    graph.node.remove(dequantize)
    graph.node.remove(quantize)
    return True


def _pair(
    makers: dict[str, onnx.NodeProto], name: str
) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """The QuantizeLinear and DequantizeLinear that a tensor comes out of."""
    dequantize = makers.get(name)
    if dequantize is None or not _is(dequantize, "DequantizeLinear"):
        return None
    quantize = makers.get(dequantize.input[0])
    if quantize is None or not _is(quantize, "QuantizeLinear"):
        return None
    return quantize, dequantize


def _makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that computes each tensor."""
    return {name: node for node in graph.node for name in node.output}


def _is(node: onnx.NodeProto | None, op_type: str) -> bool:
    return node is not None and node.op_type == op_type
