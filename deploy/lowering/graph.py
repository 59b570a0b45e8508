"""What every pass over an ONNX graph needs: constants, readers, and the way from the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_bench.files.seals.graph import KEY, require_as_sealed

INPUT, OUTPUT = "images", "logits"


def to_change(artifact: Path) -> onnx.ModelProto:
    """The model of an artefact as it was exported, without the hash that a change makes untrue.

    Raises:
        InputError: it is not what was exported.
    """
    require_as_sealed(artifact)
    model = onnx.load(artifact)
    for entry in [each for each in model.metadata_props if each.key == KEY]:
        model.metadata_props.remove(entry)
    return model


def constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """The graph's initialisers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def sole_reader(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """The one node that reads a tensor, once; None where it has other readers, or none."""
    readers = [node for node in graph.node for read in node.input if read == name]
    return readers[0] if len(readers) == 1 and name not in {o.name for o in graph.output} else None


def set_constant(graph: onnx.GraphProto, name: str, value: NDArray[Any]) -> str:
    """Put an initialiser into the graph, in place of any of that name; return the name."""
    for tensor in [t for t in graph.initializer if t.name == name]:
        graph.initializer.remove(tensor)
    # Not `ascontiguousarray`, of which a scalar comes out as a list of one.
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
    return name


def change_weights(graph: onnx.GraphProto, node: onnx.NodeProto, value: NDArray[Any]) -> None:
    """Give a node other weights (its second input): by the name that they have, unless shared."""
    name = node.input[1]
    readers = [read for other in graph.node for read in other.input if read == name]
    node.input[1] = set_constant(graph, name if len(readers) == 1 else f"{node.name}.weight", value)


def dequantised(
    integers: NDArray[Any], scale: NDArray[Any], zero_point: NDArray[Any], axis: int
) -> NDArray[np.float32]:
    """What integers of any shape stand for.

    Args:
        scale, zero_point: of all of them, () or (1,), or of each channel, (C,) along `axis`.
    """
    shape = [1] * integers.ndim
    if scale.size > 1:
        shape[axis] = -1
    zero_point = zero_point.astype(np.int64).reshape(shape if zero_point.size > 1 else ())
    step = scale.reshape(shape if scale.size > 1 else ())
    # In 64 bits, so that an int32 is rounded once.
    return np.asarray((integers.astype(np.int64) - zero_point) * step, np.float32)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes that a node states, by name."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def insert_before(graph: onnx.GraphProto, node: onnx.NodeProto, *new_nodes: onnx.NodeProto) -> None:
    """Put nodes in front of another, which keeps the order in which a graph must lie."""
    at = list(graph.node).index(node)
    for shift, new in enumerate(new_nodes):
        graph.node.insert(at + shift, new)


def tidy(graph: onnx.GraphProto) -> None:
    """Remove what a change leaves behind: constants that nothing reads, and shapes of tensors."""
    read = {name for node in graph.node for name in node.input}
    read |= {value.name for value in graph.output}
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)
    # Whoever needs them infers them anew.
    graph.ClearField("value_info")
