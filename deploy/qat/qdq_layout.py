"""What a QDQ graph quantises, where and how: read off the ONNX graph, for `qdq_network`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from deploy.qat.graph_ops import OPERATORS
from edge_bench.core.errors import InputError

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

LEARNT_INPUTS = {"Conv": (1, 2), "Gemm": (1, 2), "MatMul": (1,)}
"""Which inputs are weights and biases, in float or dequantised."""


@dataclass(frozen=True)
class Node:
    """An operator; QuantizeLinear stands for itself and the DequantizeLinear that follows.

    Attributes:
        spent: values that no later node reads.
    """

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    spent: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The integers of a scale, less their zero point, and the axis of its channels.

    Attributes:
        learns: whether it is no scale of the images themselves, whose range is known.
    """

    least: int
    most: int
    axis: int = 0
    learns: bool = True


@dataclass(frozen=True)
class Weight:
    """An integer initialiser; `value` is what it is dequantised to."""

    value: str
    scale: str


@dataclass(frozen=True)
class Bias:
    """An int32 initialiser in steps of the product of two scales, its input's and its weight's."""

    value: str
    scale: str
    factors: tuple[str, str]


@dataclass
class Layout:
    """A graph by its parts; weights, biases and floats by the initialiser's name, grids by scale.

    Attributes:
        floats: weights and biases that are not quantised.
        fixed: what else is dequantised of integers, such as the bounds of a Clip; by its name as a
            value, the names of its integers, scale and zero point, and its channels' axis.
    """

    input: str
    output: str
    nodes: tuple[Node, ...] = ()
    weights: dict[str, Weight] = field(default_factory=dict)
    biases: dict[str, Bias] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    floats: set[str] = field(default_factory=set)
    fixed: dict[str, tuple[str, str, str, int]] = field(default_factory=dict)

    def emptied(self) -> set[str]:
        """Initialisers whose values are learnt, or follow from what is."""
        return {*self.weights, *self.biases, *self.floats, *self.grids} | {
            bias.scale for bias in self.biases.values()
        }


Arrays = dict[str, NDArray[Any]]


def read_layout(model: onnx.ModelProto, weight_bound: int) -> Layout:
    """The parts of a QDQ graph.

    Args:
        weight_bound: largest integer of a weight, and with a minus the smallest.

    Raises:
        InputError: an operator or pattern that cannot be trained.
    """
    graph = model.graph
    arrays = arrays_of(graph)
    layout = Layout(input=graph.input[0].name, output=graph.output[0].name)
    made_by = {name: node for node in graph.node for name in node.output}
    same: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    learnt = _learnt_inputs(graph)
    layout.floats = learnt & arrays.keys()
    for node in graph.node:
        if node.op_type != DEQUANTIZE:
            kept.append(node)
        elif node.input[0] not in arrays:
            _check_pair(node, made_by.get(node.input[0]))
            same[node.output[0]] = node.input[0]
        elif node.output[0] not in learnt:
            axis = _attributes(node).get("axis", 1)
            layout.fixed[node.output[0]] = (node.input[0], node.input[1], node.input[2], axis)
        elif arrays[node.input[0]].dtype == np.int32:
            factors = _factors(node.output[0], graph, made_by)
            layout.biases[node.input[0]] = Bias(node.output[0], node.input[1], factors)
        else:
            axis = _attributes(node).get("axis", 1)
            layout.weights[node.input[0]] = Weight(node.output[0], node.input[1])
            layout.grids[node.input[1]] = Grid(-weight_bound, weight_bound, axis)
    # Values that nothing but the images decides, up to the first layer.
    of_images = {layout.input}
    for node in kept:
        if node.op_type == QUANTIZE:
            learns = node.input[0] not in of_images
            layout.grids[node.input[1]] = _activation_grid(arrays[node.input[2]], learns)
        elif node.op_type not in OPERATORS:
            raise InputError(
                f"--qat: the network has the ONNX operator {node.op_type}, which cannot be "
                f"trained; known are {', '.join(OPERATORS)}"
            )
        if of_images.issuperset(name for name in node.input if name not in arrays):
            of_images |= set(node.output)
    layout.output = same.get(layout.output, layout.output)
    layout.nodes = _ordered(kept, same, layout.output)
    return layout


def arrays_of(graph: onnx.GraphProto) -> Arrays:
    """The initialisers; zeros where they have been emptied."""
    found: Arrays = {}
    for entry in graph.initializer:
        if entry.raw_data or entry.float_data or entry.int32_data or entry.int64_data:
            # Its arrays share the message's memory, and may not be written to.
            found[entry.name] = numpy_helper.to_array(entry).copy()
        else:
            kind = onnx.helper.tensor_dtype_to_np_dtype(entry.data_type)
            found[entry.name] = np.zeros(tuple(entry.dims), kind)
    return found


def _learnt_inputs(graph: onnx.GraphProto) -> set[str]:
    """The values that layers read as weights and biases."""
    return {
        name
        for node in graph.node
        for at, name in enumerate(node.input)
        if at in LEARNT_INPUTS.get(node.op_type, ())
    }


def _check_pair(node: onnx.NodeProto, before: onnx.NodeProto | None) -> None:
    paired = before is not None and before.op_type == QUANTIZE
    if not paired or before is None or list(before.input[1:]) != list(node.input[1:]):
        raise InputError(
            f"--qat: the INT8 graph dequantises {node.input[0]} by another scale than it was "
            "quantised by, which cannot be trained"
        )


def _factors(
    bias: str, graph: onnx.GraphProto, made_by: dict[str, onnx.NodeProto]
) -> tuple[str, str]:
    """The scales of the input and the weight beside a bias."""
    reader = next(node for node in graph.node if bias in node.input)
    pair = [made_by.get(name) for name in reader.input[:2]]
    scales = [node.input[1] for node in pair if node is not None and node.op_type == DEQUANTIZE]
    if len(scales) != 2:
        raise InputError(
            f"--qat: the bias {bias} is quantised beside an input that is not, which cannot be "
            "trained"
        )
    return scales[0], scales[1]


def _activation_grid(zero_point: NDArray[Any], learns: bool) -> Grid:
    bounds, zero = np.iinfo(zero_point.dtype), int(zero_point.reshape(-1)[0])
    return Grid(bounds.min - zero, bounds.max - zero, learns=learns)


def _ordered(nodes: list[onnx.NodeProto], same: dict[str, str], output: str) -> tuple[Node, ...]:
    """The nodes in order, each with what it is the last to read."""
    inputs = [tuple(same.get(name, name) for name in node.input) for node in nodes]
    made = {name for node in nodes for name in node.output}
    last = {name: i for i, names in enumerate(inputs) for name in names if name in made}
    return tuple(
        Node(
            node.op_type,
            inputs[i],
            node.output[0],
            _attributes(node),
            tuple(name for name, at in last.items() if at == i and name != output),
        )
        for i, node in enumerate(nodes)
    )


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
