"""How an image enters the graph: as uint8 levels, and in INT8 on the grid of its own 256 levels.

A picture is quantised before any model sees it. An INT8 graph that normalises it in float and
rounds the outcome again moves every pixel by up to half a step, for nothing: the levels themselves
are the integers to compute with. So the image is centred by 128/255 for all channels alike, which
gives it the scale 1/255 with zero point 128 in uint8, or 0 in int8, exactly. Each channel's own
mean then differs by a constant, which the convolution adds as the weights of one more channel that
is constant over the image. As a bias it would be wrong along the border, where the convolution
pads with the mean; the constant channel ends where the image ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from deploy.lowering.graph import (
    attributes,
    change_weights,
    constants,
    insert_before,
    set_constant,
    sole_reader,
    tidy,
)
from deploy.lowering.tidy import CENTRE, image_tensor, way_to_convolution

MIDDLE = 128
"""The level that is 0 once the image is centred."""
HIGHEST = 255
CONSTANT = (HIGHEST - MIDDLE) / HIGHEST
"""Of the constant channel: the highest level, centred."""
STEP = np.float32(1 / HIGHEST)
TO_NCHW = [0, 3, 1, 2]
CONSTANT_CHANNEL = "constant_channel"
"""Name of the node that adds the channel of level 255."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The tensor that holds levels, and the nodes before it, which must stay in float."""

    tensor: str
    float_nodes: tuple[str, ...]

    def overrides(self, *, signed: bool) -> dict[str, list[dict[str, Any]]]:
        """ONNX Runtime's `TensorQuantOverrides` by which the tensor's integers are the levels."""
        zero = np.array(0, np.int8) if signed else np.array(MIDDLE, np.uint8)
        return {self.tensor: [{"scale": np.array(STEP), "zero_point": zero}]}


def put_on_grid(model: onnx.ModelProto) -> Grid | None:
    """Centre the image of a float graph by 128/255, in place; what it computes stays the same.

    Returns None, and leaves the graph as it is, where no convolution with constant weights is the
    first to read the image (centred by `clean` or as it is), channel by channel.
    """
    graph = model.graph
    images, known = image_tensor(graph), constants(graph)
    chain, conv = way_to_convolution(graph, images)
    if conv is None or conv.input[1] not in known:
        return None
    if [node.name for node in chain] not in ([], [CENTRE]):
        return None
    weight = known[conv.input[1]].astype(np.float64)
    if _channels(model, images) not in (None, weight.shape[1]):
        return None  # A mean of three channels makes three of a grey image.
    mean = known[chain[0].input[1]].astype(np.float64) if chain else np.zeros((1, 1, 1, 1))
    missing = (weight * (MIDDLE / HIGHEST - mean)).sum(axis=1, keepdims=True)
    nodes = [_centre(graph, images)]
    if _pads(conv):
        nodes.append(_constant_channel(graph, nodes[0].output[0]))
        weight = np.concatenate([weight, missing / CONSTANT], axis=1)
    else:
        _add_to_bias(graph, conv, missing.sum(axis=(1, 2, 3)))
    for node in chain:
        graph.node.remove(node)
    insert_before(graph, conv, *nodes)
    tensor = nodes[-1].output[0]
    conv.input[0] = tensor
    change_weights(graph, conv, weight.astype(np.float32))
    tidy(graph)
    return Grid(tensor=tensor, float_nodes=tuple(node.name for node in nodes))


def _channels(model: onnx.ModelProto, images: str) -> int | None:
    """How many the images (B, C, H, W) have; None where the graph leaves it open."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    for value in (*graph.input, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if value.name == images and len(dims) == 4 and dims[1].HasField("dim_value"):
            return int(dims[1].dim_value)
    return None


def _centre(graph: onnx.GraphProto, images: str) -> onnx.NodeProto:
    middle = np.array([MIDDLE / HIGHEST], np.float32)
    inputs = [images, set_constant(graph, f"{CENTRE}.middle", middle)]
    return helper.make_node("Sub", inputs, [f"{CENTRE}.output"], name=CENTRE)


def _constant_channel(graph: onnx.GraphProto, images: str) -> onnx.NodeProto:
    """The node that adds a channel of the highest level to centred float images (B, C, H, W)."""
    pads = np.array([0, 0, 0, 0, 0, 1, 0, 0], np.int64)
    inputs = [
        images,
        set_constant(graph, f"{CONSTANT_CHANNEL}.pads", pads),
        set_constant(graph, f"{CONSTANT_CHANNEL}.level", np.array(CONSTANT, np.float32)),
    ]
    return helper.make_node("Pad", inputs, [f"{CONSTANT_CHANNEL}.output"], name=CONSTANT_CHANNEL)


def _add_to_bias(graph: onnx.GraphProto, conv: onnx.NodeProto, more: NDArray[np.float64]) -> None:
    known = constants(graph)
    bias = more + (known[conv.input[2]] if len(conv.input) > 2 else 0)
    del conv.input[2:]
    conv.input.append(set_constant(graph, f"{conv.name}.bias", bias.astype(np.float32)))


def read_levels(model: onnx.ModelProto) -> None:
    """Let a graph of float images (B, C, H, W) in [0, 1] read uint8 ones (B, H, W, C), in place.

    In an INT8 graph of unsigned activations whose image is on the grid, the levels become the
    integers of the first convolution without a detour through float. Others make floats of them
    first.
    """
    graph = model.graph
    images = graph.input[0].name
    batch, channels, height, width = list(graph.input[0].type.tensor_type.shape.dim)
    sizes = [_size(dimension) for dimension in (batch, height, width, channels)]
    grid = _grid_nodes(graph, images)
    head = _to_floats(graph, images) if grid is None else _to_integers(graph, images, grid)
    for node in grid or []:
        graph.node.remove(node)
    insert_before(graph, graph.node[0], *head)
    graph.input[0].CopyFrom(helper.make_tensor_value_info(images, TensorProto.UINT8, sizes))
    tidy(graph)


def _to_floats(graph: onnx.GraphProto, images: str) -> list[onnx.NodeProto]:
    """Nodes from levels (B, H, W, C) to floats (B, C, H, W) in [0, 1]; the graph reads these."""
    floats, turned, unit = (f"{images}.{name}" for name in ("float", "turned", "unit"))
    for node in graph.node:
        node.input[:] = [unit if name == images else name for name in node.input]
    step = set_constant(graph, f"{images}.step", STEP.reshape(1))
    return [
        # First of all: TensorRT takes uint8 no farther.
        helper.make_node("Cast", [images], [floats], name="to_float", to=TensorProto.FLOAT),
        helper.make_node("Transpose", [floats], [turned], name="to_nchw", perm=TO_NCHW),
        helper.make_node("Mul", [turned, step], [unit], name="to_unit"),
    ]


def _to_integers(
    graph: onnx.GraphProto, images: str, grid: list[onnx.NodeProto]
) -> list[onnx.NodeProto]:
    """Nodes from levels (B, H, W, C) to what the last of `grid` writes, which are the levels."""
    nodes, levels = [], images
    if CONSTANT_CHANNEL in [node.name for node in grid]:
        # Before the transposition: ONNX Runtime's integer convolutions turn it back, for nothing.
        pads = set_constant(graph, f"{CONSTANT_CHANNEL}.pads", np.array([0] * 7 + [1], np.int64))
        level = set_constant(graph, f"{CONSTANT_CHANNEL}.level", np.array(HIGHEST, dtype=np.uint8))
        inputs, levels = [images, pads, level], f"{CONSTANT_CHANNEL}.output"
        nodes.append(helper.make_node("Pad", inputs, [levels], name=CONSTANT_CHANNEL))
    turned = grid[-1].output[0]
    turn = helper.make_node("Transpose", [levels], [turned], name="to_nchw", perm=TO_NCHW)
    return [*nodes, turn]


def _grid_nodes(graph: onnx.GraphProto, images: str) -> list[onnx.NodeProto] | None:
    """The nodes from the image to its integers, where those are its levels in uint8."""
    known, chain, name = constants(graph), list[onnx.NodeProto](), images
    while (node := sole_reader(graph, name)) is not None and len(chain) < 3:
        chain.append(node)
        name = node.output[0]
        if node.op_type == "QuantizeLinear":
            zero = known[node.input[2]]
            on_grid = zero.dtype == np.uint8 and zero == MIDDLE and known[node.input[1]] == STEP
            names = [before.name for before in chain[:-1]]
            return chain if on_grid and names in ([CENTRE], [CENTRE, CONSTANT_CHANNEL]) else None
    return None


def _pads(conv: onnx.NodeProto) -> bool:
    stated = attributes(conv)
    return any(stated.get("pads", ())) or stated.get("auto_pad", b"NOTSET") not in (
        b"NOTSET",
        b"VALID",
    )


def _size(dimension: Any) -> Any:
    return dimension.dim_param or dimension.dim_value
