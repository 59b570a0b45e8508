"""ONNX files as other tools write them, of a network whose torch original is here or of none."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from ard.data.splits import Dataset, as_float
from ard.models.graphs import Said

Array = NDArray[Any]
Enter = Callable[[Array], Array]
LINES = ("turn left here", "robust under attack", "no entry", "platform nine", "mind the step")


def as_it_is(images: Array) -> Array:
    return images


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A file, what a person says of it, and what makes its input of images in 0..1.

    Attributes:
        batch: that its input is bound to.
        of_torch: the file computes the torch original.
    """

    path: Path
    said: Said = field(default_factory=Said)
    enter: Enter = as_it_is
    output: str | None = None
    batch: int | None = None
    of_torch: bool = True


def _script(network: nn.Module, path: Path, opset: int, batch: int | None = None) -> Path:
    """torch's exporter of before dynamo."""
    axes = None if batch else {"input": {0: "n"}, "scores": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(batch or 2, 3, 32, 32),),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["input"],
            output_names=["scores"],
            dynamic_axes=axes,
        )
    return path


def script_9(model: nn.Module, data: Dataset, folder: Path) -> Foreign:
    return Foreign(
        path=_script(nn.Sequential(model, nn.Softmax(dim=1)).eval(), folder / "m.onnx", 9)
    )


def script_13(model: nn.Module, data: Dataset, folder: Path) -> Foreign:
    layer: Any = model.normalise
    mean, std = (tuple(part.flatten().tolist()) for part in (layer.mean, layer.std))
    inner: Any = model.network
    shape = (3, 1, 1)

    def enter(images: Array) -> Array:
        found: Array = (images - np.reshape(mean, shape)) / np.reshape(std, shape)
        return found.astype(np.float32)

    path = _script(inner, folder / "m.onnx", 13, batch=1)
    return Foreign(path=path, said=Said(mean=mean, std=std), enter=enter, batch=1)


def newest(model: nn.Module, data: Dataset, folder: Path) -> Foreign:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, 32, 32),),
            str(folder / "m.onnx"),
            dynamo=True,
            verbose=False,
            opset_version=23,
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    whole = onnx.load(folder / "m.onnx")
    last = whole.graph.node[-1].input[0]
    whole.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))
    onnx.save(whole, folder / "two.onnx", save_as_external_data=True, location="two.data")
    return Foreign(path=folder / "two.onnx", output="scores")


def channels_last(model: nn.Module, data: Dataset, folder: Path) -> Foreign:
    whole = onnx.load(
        _script(nn.Sequential(model, nn.Softmax(dim=1)).eval(), folder / "m.onnx", 11)
    )
    first = [
        helper.make_node("Cast", ["input_1:0"], ["cast:0"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast:0", "rescale/scale"], ["rescale:0"]),
        helper.make_node("Transpose", ["rescale:0"], ["input"], perm=[0, 3, 1, 2]),
    ]
    for at, node in enumerate(first):
        whole.graph.node.insert(at, node)
    scale = numpy_helper.from_array(np.array(1 / 255, np.float32), "rescale/scale")
    whole.graph.initializer.append(scale)
    shape = ("n", 32, 32, 3)
    images = helper.make_tensor_value_info("input_1:0", TensorProto.UINT8, shape)
    whole.graph.input[0].CopyFrom(images)
    onnx.save(whole, folder / "nhwc.onnx")

    def enter(images: Array) -> Array:
        levels: Array = np.rint(images * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return levels

    return Foreign(path=folder / "nhwc.onnx", enter=enter)


def half(model: nn.Module, data: Dataset, folder: Path) -> Foreign:
    from onnxconverter_common import float16

    whole = onnx.load(_script(model, folder / "m.onnx", 13))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx.save(float16.convert_float_to_float16(whole), folder / "half.onnx")
    return Foreign(path=folder / "half.onnx", enter=lambda images: images.astype(np.float16))


def quantised(model: nn.Module, data: Dataset, folder: Path) -> Foreign:
    """By ONNX Runtime's own static quantisation, as its manual has it."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    images = as_float(data.train.images[:64]).numpy()

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{"input": images}])

        def get_next(self) -> dict[str, Array] | None:
            return next(self.left, None)

    path = _script(model, folder / "m.onnx", 13)
    quantize_static(str(path), str(folder / "int8.onnx"), Reader(), per_channel=True)
    return Foreign(path=folder / "int8.onnx")


def sklearn_mlp(model: nn.Module, data: Dataset, folder: Path) -> Foreign:
    """A perceptron of scikit-learn on pixels, its converter's file after a Reshape."""
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    pixels = as_float(data.train.images).flatten(1).numpy()
    fitted = MLPClassifier((64,), max_iter=20, random_state=0, early_stopping=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted.fit(pixels, data.train.labels.numpy())
        whole = to_onnx(fitted, pixels[:1], options={"zipmap": False}, target_opset=17)
    flat = whole.graph.input[0].name
    whole.graph.node.insert(0, helper.make_node("Reshape", ["image", "flat"], [flat]))
    whole.graph.initializer.append(numpy_helper.from_array(np.array([0, -1]), "flat"))
    shape = ("n", 3, 32, 32)
    images = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    whole.graph.input[0].CopyFrom(images)
    onnx.save(whole, folder / "mlp.onnx")
    return Foreign(path=folder / "mlp.onnx", output="probabilities", of_torch=False)


def text_direction(model: nn.Module, data: Dataset, folder: Path) -> Foreign:
    """PaddleOCR's classifier of upright and turned lines, which rapidocr-onnxruntime ships."""
    spec = find_spec("rapidocr_onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
    half = (0.5, 0.5, 0.5)
    said = Said(mean=half, std=half, image_shape=data.image_shape)

    def enter(images: Array) -> Array:
        return ((images - 0.5) / 0.5).astype(np.float32)

    return Foreign(path=path, said=said, enter=enter, of_torch=False)


def write_lines(folder: Path, count: int) -> None:
    """Pictures (48x192) of lines of text, upright (0) and turned (180), in train and test."""
    draw = np.random.default_rng(0)
    for part, share in (("train", count), ("test", count)):
        for number in range(share):
            picture = Image.new("RGB", (192, 48), tuple(draw.integers(180, 256, 3).tolist()))
            text = f"{LINES[number % len(LINES)]} {draw.integers(10, 100)}"
            place = (float(draw.integers(2, 16)), float(draw.integers(4, 16)))
            font = ImageFont.load_default(float(draw.integers(14, 20)))
            ink = tuple(draw.integers(0, 90, 3).tolist())
            ImageDraw.Draw(picture).text(place, text, ink, font)
            turned = number % 2 == 1
            into = folder / part / ("180" if turned else "0")
            into.mkdir(parents=True, exist_ok=True)
            (picture.rotate(180) if turned else picture).save(into / f"{number}.png")


FILES: dict[str, tuple[Callable[[nn.Module, Dataset, Path], Foreign], str]] = {
    "torchscript, opset 9": (script_9, "torch's old exporter, softmax at the end"),
    "torchscript, opset 13": (script_13, "bound to one image a call, normalisation outside"),
    "dynamo, opset 23": (newest, "two outputs, weights in a file of their own"),
    "channels last, opset 11": (channels_last, "uint8 images (B, H, W, C), as Keras' are; softmax"),
    "float16": (half, "by onnxconverter-common, input and weights"),
    "int8": (quantised, "quantised by onnxruntime.quantization, QDQ"),
    "skl2onnx": (sklearn_mlp, "scikit-learn's MLPClassifier on pixels; label and probabilities"),
    "rapidocr": (text_direction, "PaddlePaddle's, of the package; sizes open, opset 11"),
}
"""By name: what makes the file, and what is particular about it."""
