"""FP16 in the ONNX itself: weights and activations in float16, input and output as they were.

Strongly typed, as TensorRT 11 demands. Nodes whose values a float16 may not hold stay in float32,
between casts, and so do those that the caller names.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST
from onnxruntime.transformers.onnx_model import OnnxModel

from deploy.lowering.graph import INPUT, OUTPUT, attributes, constants
from deploy.lowering.layers import Layer, layers_of, name_nodes
from deploy.quantization.calibration import calibrate

FLOAT = onnx.TensorProto.FLOAT
LARGEST = float(np.finfo(np.float16).max) / 8
"""What a tensor may reach on the images that are tried; on others, and within sums, it may go
higher."""


class HalfMaker:
    """A graph that can be converted to FP16 with any of its layers left in float32.

    Args:
        fp32: the ONNX file.
        folder: for an intermediate file; it lives as long as the maker does.
        images: (N, C, H, W) uint8 levels, or float32 in [0, 1]; they show how large the graph's
            values become.

    Attributes:
        too_large: names of the nodes whose values float16 may not hold.
        in_float32: names of the nodes that stay in float32 in any case: these, those of kinds that
            ONNX Runtime's converter takes for unfit for float16 (Min, Max, CumSum), and those that
            it would crash at.
    """

    def __init__(self, fp32: Path, folder: Path, images: NDArray[Any]) -> None:
        model = onnx.load(fp32)
        name_nodes(model.graph)
        self._named = folder / f"named-{fp32.name}"
        onnx.save(model, self._named)
        self.too_large = _too_large(self._named, model, images)
        self.in_float32 = self.too_large | _of_blocked_kinds(model) | _that_crash(model)
        # What only names, turns or casts an image has no precision to choose.
        types = {node.op_type for node in model.graph.node} - {"Cast", "Transpose"}
        self.layers: list[Layer] = layers_of(model.graph, types)

    def make(self, path: Path, in_float: Collection[Layer] = ()) -> None:
        """Write the FP16 graph to `path`, with the layers `in_float` in float32."""
        kept = self.in_float32 | {node for layer in in_float for node in layer.nodes}
        converted = OnnxModel(onnx.load(self._named))
        with warnings.catch_warnings():
            # Each weight under the smallest float16 is told, which is what rounding means.
            warnings.simplefilter("ignore")
            converted.convert_float_to_float16(
                use_symbolic_shape_infer=False,
                keep_io_types=[INPUT, OUTPUT],
                node_block_list=sorted(kept),
            )
        converted.topological_sort()
        onnx.save(converted.model, path)


def _of_blocked_kinds(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes with floats that the converter leaves as they are, unasked."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == FLOAT} | {
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == FLOAT
    }
    return {
        node.name
        for node in graph.node
        if node.op_type in DEFAULT_OP_BLOCK_LIST and floats & {*node.input, *node.output}
    }


def _that_crash(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that turn the batch's axis for a MatMul, as self-attention does.

    On x86-64 ONNX Runtime from 1.24 on (1.32, too) fuses the two, where a cast from float16 lies
    between them alone, and ends with the process (its issue 28392). Turning rounds nothing.
    """
    read = {name for node in model.graph.node if node.op_type == "MatMul" for name in node.input}
    return {
        node.name
        for node in model.graph.node
        if node.op_type == "Transpose"
        and read & {*node.output}
        and attributes(node).get("perm", [-1])[0] != 0
    }


def _too_large(fp32: Path, model: onnx.ModelProto, images: NDArray[Any]) -> set[str]:
    """Names of the nodes that read or write a tensor beyond LARGEST on some of the images."""
    peaks = {
        name: float(np.abs(value).max())
        for name, value in constants(model.graph).items()
        if value.dtype == np.float32 and value.size
    }
    types = {node.op_type for node in model.graph.node}
    for name, ranges in calibrate(fp32, images, "minmax", types).items():
        peaks[name] = max(float(np.abs(end).max()) for end in ranges.range_value)
    large = {name for name, peak in peaks.items() if not peak <= LARGEST}
    return {n.name for n in model.graph.node if large & {*n.input, *n.output}}
