"""Constant arithmetic leaves the graph: batch normalisation, and the scale of the images.

torch's exporter folds a batch normalisation into the convolution before it, and removes what it
can evaluate. Left over are those that no convolution feeds alone (pre-activation networks,
DenseNet) and the normalisation of the images, two passes over them of which one will do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from deploy.lowering.graph import (
    attributes,
    change_weights,
    constants,
    set_constant,
    sole_reader,
    tidy,
)
from edge_bench.core.errors import InputError

CENTRE = "centre"
"""Name of the node that takes the mean from the images."""

Float64 = NDArray[np.float64]


def clean(model: onnx.ModelProto) -> None:
    """Fold in place what is constant; the graph computes the same, up to rounding.

    Raises:
        InputError: logits of an image that depend on the images beside it.
    """
    _refuse_statistics_of_the_batch(model.graph)
    _convolve_instead_of_normalising(model)
    _scale_in_the_first_convolution(model.graph)
    tidy(model.graph)


def lay_biases_in_rows(model: onnx.ModelProto) -> None:
    """Give each Gemm a constant bias (N,), in place, where it has one of another shape.

    ONNX lets it have any that can be stretched to (M, N), and a product and a sum that ONNX Runtime
    made one Gemm of keep (1, N), which its quantiser takes for N values of one channel.
    """
    graph = model.graph
    known = constants(graph)
    for node in graph.node:
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[1] not in known:
            continue
        bias = known.get(node.input[2])
        if bias is None or bias.ndim == 1 or bias.size != max(bias.shape[-1:], default=1):
            continue
        width = known[node.input[1]].shape[0 if attributes(node).get("transB", 0) else 1]
        row = np.broadcast_to(bias.reshape(-1), width)
        node.input[2] = set_constant(graph, f"{node.input[2]}/row", row)
    tidy(graph)


def _refuse_statistics_of_the_batch(graph: onnx.GraphProto) -> None:
    known, of_images = constants(graph), {value.name for value in graph.input}
    for node in graph.node:
        if of_images & {*node.input}:
            of_images.update(node.output)
        # One of weights, as standardised convolutions have, is the same for every batch.
        is_of_batch = node.op_type == "BatchNormalization" and node.input[0] in of_images
        if is_of_batch and not known.keys() >= {*node.input[3:5]}:
            name = node.input[1].removesuffix(".weight") if node.input[1] in known else node.name
            raise InputError(
                f"export: the batch normalisation {name} takes mean and variance from the batch, "
                "so that an image's logits depend on the images beside it; give it running "
                "statistics (track_running_stats=True) and train the network again"
            )


def _convolve_instead_of_normalising(model: onnx.ModelProto) -> None:
    """Each batch normalisation left of (B, C, H, W) is a 1x1 convolution of each channel by itself.

    ONNX Runtime makes the same of it for FP32 on x86, no more there; and a convolution can be
    quantised, where a batch normalisation would stay in float between its neighbours. One of
    another shape does stay so: it is small, and no runtime has integer kernels for it.
    """
    graph, known = model.graph, constants(model.graph)
    pictures = _of_four_axes(model)
    for node in [n for n in graph.node if n.op_type == "BatchNormalization"]:
        if node.input[0] not in pictures or not known.keys() >= {*node.input[1:5]}:
            continue
        if known[node.input[1]].dtype != np.float32:
            continue  # Of float64 ONNX Runtime has this operator, and no convolution.
        scale, bias, mean, variance = (known[name].astype(np.float64) for name in node.input[1:5])
        factor = scale / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
        kernel = factor.reshape(-1, 1, 1, 1).astype(np.float32)
        weight = set_constant(graph, f"{node.name}.weight", kernel)
        shift = (bias - mean * factor).astype(np.float32)
        offset = set_constant(graph, f"{node.name}.bias", shift)
        node.CopyFrom(
            helper.make_node(
                "Conv",
                [node.input[0], weight, offset],
                [node.output[0]],
                name=node.name,
                group=len(factor),
                kernel_shape=[1, 1],
            )
        )


def _of_four_axes(model: onnx.ModelProto) -> set[str]:
    """Names of the tensors of which it is known that they have four axes."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name
        for value in (*graph.input, *graph.value_info)
        if len(value.type.tensor_type.shape.dim) == 4
    }


def _scale_in_the_first_convolution(graph: onnx.GraphProto) -> None:
    """Additions and scalings of the image, up to the first convolution, become one subtraction.

    conv(pad(s x + t)) with weights W is conv(pad(x - m)) with weights W s, where m = -t / s. The
    subtraction stays: what the convolution pads with is 0 after it, and a bias cannot say that.
    """
    known = constants(graph)
    images = image_tensor(graph)
    chain, conv = way_to_convolution(graph, images)
    if conv is None or not chain or conv.input[1] not in known:
        return  # Weights may be made in the graph, as those of weight normalisation.
    kind = known[conv.input[1]].dtype
    weight = known[conv.input[1]].astype(np.float64)
    slope, offset = np.ones(weight.shape[1]), np.zeros(weight.shape[1])
    name = images
    for node in chain:
        step = _affine(node, name, known, len(slope))
        if step is None:
            return
        slope, offset, name = slope * step[0], offset * step[0] + step[1], node.output[0]
    if not slope.all():
        return
    change_weights(graph, conv, (weight * _by_channel(slope)).astype(kind))
    mean = set_constant(graph, f"{CENTRE}.mean", _by_channel(-offset / slope).astype(kind))
    centre = helper.make_node("Sub", [images, mean], [chain[-1].output[0]], name=CENTRE)
    chain[0].CopyFrom(centre)
    for node in chain[1:]:
        graph.node.remove(node)


def image_tensor(graph: onnx.GraphProto) -> str:
    """Name of the images (B, C, H, W) in float: the input, or what its layout and type become."""
    name: str = graph.input[0].name
    while (node := sole_reader(graph, name)) is not None and node.op_type in ("Transpose", "Cast"):
        name = node.output[0]
    return name


def way_to_convolution(
    graph: onnx.GraphProto, name: str
) -> tuple[list[onnx.NodeProto], onnx.NodeProto | None]:
    """The nodes that read one another from a tensor on, and the first convolution over all of it.

    The convolution is None where the way branches before it, or ends otherwise.
    """
    chain: list[onnx.NodeProto] = []
    while (node := sole_reader(graph, name)) is not None:
        if node.op_type == "Conv":
            plain = attributes(node).get("group", 1) == 1 and node.input[0] == name
            return chain, node if plain else None
        chain.append(node)
        name = node.output[0]
    return chain, None


def _affine(
    node: onnx.NodeProto, name: str, known: dict[str, NDArray[Any]], channels: int
) -> tuple[Float64, Float64] | None:
    """(slope, offset) by channel of what a node makes of the tensor `name`; None if it is not."""
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return None
    first = node.input[0] == name
    constant = known.get(node.input[1] if first else node.input[0])
    if constant is None or not _is_by_channel(constant, channels):
        return None
    value = np.broadcast_to(constant.astype(np.float64).ravel(), channels)
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op_type == "Add":
        return one, value
    if node.op_type == "Mul":
        return value, zero
    if node.op_type == "Sub":
        return (one, -value) if first else (-one, value)
    return (1 / value, zero) if first and value.all() else None


def _is_by_channel(constant: NDArray[Any], channels: int) -> bool:
    """Does it hold one value, or one for each channel of (B, C, H, W)?"""
    by_channel = constant.ndim in (3, 4) and constant.shape[-3:] == (channels, 1, 1)
    return constant.size == 1 or (by_channel and constant.size == channels)


def _by_channel(values: Float64) -> Float64:
    return values.reshape(1, -1, 1, 1)
