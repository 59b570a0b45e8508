"""ONNX files as others make them, each of one classifier."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import nn

MEAN, STD = 0.3, 0.4
Array = NDArray[Any]


class Normalised(nn.Module):
    """The classifier of which every file here is made."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.Hardswish(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(96, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.body((images - MEAN) / STD)
        return found


@dataclass(frozen=True)
class Foreign:
    """A file as another tool writes it, and what turns images (B, 1, 8, 8) in 0..1 into its input.

    Attributes:
        told: options that a person must give beside --dataset.
        batch: that its input is bound to.
    """

    path: Path
    enter: Callable[[Array], Array]
    told: tuple[str, ...] = ()
    batch: int | None = None
    output: str | None = None


def exported(module: nn.Module, path: Path, opset: int, batch: int | None = None) -> Path:
    """By torch's exporter of before dynamo."""
    example = torch.zeros(batch or 2, 1, 8, 8)
    free = None if batch else {"in": {0: "n"}, "out": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["in"],
            output_names=["out"],
            dynamic_axes=free,
        )
    return path


def old_exporter(network: Normalised, folder: Path) -> Foreign:
    """Opset 9, and a softmax at the end."""
    path = exported(nn.Sequential(network, nn.Softmax(dim=1)).eval(), folder / "old.onnx", 9)
    return Foreign(path, lambda images: images)


def fixed_batch(network: Normalised, folder: Path) -> Foreign:
    """Eight images a call, normalised by whoever calls."""
    path = exported(network.body, folder / "fixed.onnx", 13, batch=8)
    told = ("--mean", str(MEAN), "--std", str(STD))
    return Foreign(path, lambda images: (images - MEAN) / STD, told, batch=8)


def keras_style(network: Normalised, folder: Path) -> Foreign:
    """Levels of 8 bits, channels last, names with slashes and colons, opset 11."""
    model = onnx.load(exported(network.body, folder / "keras.onnx", 11))
    graph = model.graph
    first = [
        helper.make_node("Cast", ["input_1:0"], ["cast:0"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast:0", "rescale/x"], ["rescale:0"]),
        helper.make_node("Sub", ["rescale:0", "mean/x"], ["sub:0"]),
        helper.make_node("Div", ["sub:0", "std/x"], ["div:0"]),
        helper.make_node("Transpose", ["div:0"], ["in"], perm=[0, 3, 1, 2]),
    ]
    for at, node in enumerate(first):
        graph.node.insert(at, node)
    for name, value in (("rescale/x", 1 / 255), ("mean/x", MEAN), ("std/x", STD)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    shape = ("n", 8, 8, 1)
    graph.input[0].CopyFrom(helper.make_tensor_value_info("input_1:0", TensorProto.UINT8, shape))
    names = {str(i): f"digit {i}" for i in range(10)}
    helper.set_model_props(model, {"id2label": json.dumps(names)})
    onnx.save(model, folder / "keras.onnx")

    def enter(images: Array) -> Array:
        levels: Array = np.rint(images * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return levels

    return Foreign(folder / "keras.onnx", enter)


def half(network: Normalised, folder: Path) -> Foreign:
    """float16 throughout, also of the input."""
    path = exported(network, folder / "half.onnx", 13)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = convert_float_to_float16(onnx.load(path), keep_io_types=False)
    onnx.save(model, path)
    return Foreign(path, lambda images: images.astype(np.float16))


def several_outputs(network: Normalised, folder: Path) -> Foreign:
    """Features and logits, and its weights in a file of their own."""
    path = exported(network, folder / "two.onnx", 13)
    model = onnx.load(path)
    last = model.graph.node[-1]
    info = helper.make_tensor_value_info(last.input[0], TensorProto.FLOAT, ("n", 96))
    model.graph.output.insert(0, info)
    onnx.save(model, path, save_as_external_data=True, location="two.weights", size_threshold=0)
    return Foreign(path, lambda images: images, ("--output", "out"), output="out")


KINDS = {
    made.__name__: made for made in (old_exporter, fixed_batch, keras_style, half, several_outputs)
}


def bare_loop(foreign: Foreign, images: Array, labels: Array) -> Array:
    """(N,) booleans of the file as it is, in ONNX Runtime."""
    session = onnxruntime.InferenceSession(foreign.path)
    name, output = session.get_inputs()[0].name, foreign.output or session.get_outputs()[0].name
    given = foreign.enter(images)
    size = foreign.batch or len(given)
    given = np.concatenate([given, np.repeat(given[-1:], -len(given) % size, axis=0)])
    parts = [session.run([output], {name: part})[0] for part in np.split(given, len(given) // size)]
    return np.asarray(np.concatenate(parts)[: len(images)].argmax(axis=1) == labels)
