"""Small ONNX classifiers to read: nodes between the images and a last matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from deploy.reading.network import Ends, GraphNetwork
from edge_bench.backends.ort import image_input

Array = NDArray[Any]
SHAPE = (3, 6, 5)
KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def node(operator: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node of inputs and outputs with blanks between them; `-` is an input that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(operator, names, outputs.split(), **attributes)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Array],
    *,
    opset: int,
    shape: tuple[Any, ...] = ("batch", *SHAPE),
    kind: str = "float32",
    output: str = "logits",
    classes: Any = "classes",
    domains: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of `images` to `output` (B, classes)."""
    graph = helper.make_graph(
        list(nodes),
        "classifier",
        [helper.make_tensor_value_info("images", KINDS[kind], shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, (shape[0], classes))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = {"": opset} | (domains or {})
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        ir_version=8 if opset < 21 else 10,
    )


def classifier_around(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Array],
    *,
    opset: int,
    shape: tuple[Any, ...] = ("batch", *SHAPE),
    kind: str = "float32",
) -> onnx.ModelProto:
    """The nodes, of `images` to `y`, and a linear layer of three classes after them."""
    count = shape[0] if isinstance(shape[0], int) else 2
    probe = model_of(nodes, constants, opset=opset, shape=shape, kind=kind, output="y")
    probe.graph.output[0].type.tensor_type.ClearField("shape")
    features = int(np.prod(run(probe, images_of(count, shape, kind), "y").shape[1:]))
    weight = np.random.default_rng(1).normal(size=(features, 3)) / np.sqrt(features)
    last = [node("Flatten", "y", "flat", axis=1), node("MatMul", "flat last.weight", "logits")]
    return model_of(
        [*nodes, *last],
        constants | {"last.weight": weight.astype(np.float32)},
        opset=opset,
        shape=shape,
        kind=kind,
        classes=3,
    )


def images_of(count: int, shape: tuple[Any, ...], kind: str = "float32", seed: int = 0) -> Array:
    """What a graph of that input takes."""
    drawn = np.random.default_rng(seed).random((count, *(int(size) for size in shape[1:])))
    return (drawn * 255).astype(np.uint8) if kind == "uint8" else drawn.astype(kind)


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def run(model: onnx.ModelProto, images: Array, output: str = "logits") -> Array:
    """What ONNX Runtime makes of the images."""
    (found,) = session_of(model).run([output], {"images": images})
    return np.asarray(found)


def network_of(model: onnx.ModelProto, output: str = "logits", **ends: Any) -> GraphNetwork:
    """The same graph read into torch."""
    inputs = session_of(model).get_inputs()
    found = Ends(input=image_input(inputs, Path("it.onnx")), output=output, **ends)
    # Reading changes the graph that it is given.
    copy = onnx.load_model_from_string(model.SerializeToString())
    return GraphNetwork(copy, "it.onnx", found).eval()
