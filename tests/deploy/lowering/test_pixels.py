"""Images enter an INT8 graph as their own levels, and any graph as uint8 (B, H, W, C)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType
from torch import Tensor, nn

from deploy.lowering.pixels import put_on_grid, read_levels
from deploy.onnx_export.export import export_fp32
from deploy.quantization.quantize import quantize_int8
from deploy.quantization.targets import TARGETS

LEVELS = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
FLOATS = LEVELS.astype(np.float32) / np.float32(255)


class Small(nn.Module):
    """Normalisation by channel, a convolution with padding or without, and a head."""

    def __init__(self, padding: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=padding, bias=bias)
        self.head = nn.Linear(8 * (6 + 2 * padding) ** 2, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - torch.tensor([0.5, 0.4, 0.2]).reshape(3, 1, 1)) / 0.25
        logits: Tensor = self.head(torch.relu(self.stem(x)).flatten(1))
        return logits


@pytest.fixture
def fp32(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "fp32.onnx"
    export_fp32(Small().eval(), (3, 8, 8), path)
    return path


def logits(graph: Path | onnx.ModelProto, images: NDArray[Any]) -> NDArray[np.float32]:
    model = graph if isinstance(graph, onnx.ModelProto) else onnx.load(graph)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"images": images})
    return np.asarray(found)


def quantised(fp32: Path, target: str) -> Path:
    path = fp32.with_name(f"{target}.onnx")
    quantize_int8(fp32, path, FLOATS, target)
    return path


def as_uint8(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    read_levels(model)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize(("padding", "bias"), [(1, True), (1, False), (0, True), (0, False)])
def test_a_graph_on_the_grid_computes_the_same_up_to_its_border(
    padding: int, bias: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "a.onnx"
    export_fp32(Small(padding, bias).eval(), (3, 8, 8), path)
    moved = onnx.load(path)
    assert put_on_grid(moved) is not None
    np.testing.assert_allclose(logits(moved, FLOATS), logits(path, FLOATS), atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_the_integers_of_an_image_are_its_levels(target: str, fp32: Path) -> None:
    model = onnx.load(quantised(fp32, target))
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    signed = TARGETS[target].activations is QuantType.QInt8
    kind = onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8
    model.graph.output.append(onnx.helper.make_tensor_value_info(first.output[0], kind, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    _, integers = session.run(None, {"images": FLOATS})
    expected = LEVELS.astype(np.int16) - (128 if signed else 0)
    assert np.array_equal(integers[:, :3], expected)
    assert np.all(integers[:, 3] == (127 if signed else 255))


@pytest.mark.parametrize("target", TARGETS)
def test_int8_of_uint8_images_gives_the_logits_of_float_ones(target: str, fp32: Path) -> None:
    path = quantised(fp32, target)
    camera = np.ascontiguousarray(LEVELS.transpose(0, 2, 3, 1))
    assert np.array_equal(logits(as_uint8(path), camera), logits(path, FLOATS))


def test_levels_go_straight_into_unsigned_convolutions_and_to_tensorrt_through_a_cast(
    fp32: Path,
) -> None:
    before: dict[str, list[str]] = {}
    for target in ("x86-vnni", "tensorrt"):
        kinds = [node.op_type for node in as_uint8(quantised(fp32, target)).graph.node]
        kinds = kinds[: kinds.index("Conv")]
        # Weights have a DequantizeLinear too, wherever they lie.
        before[target] = [kind for kind in kinds if kind != "DequantizeLinear"]
    assert before["x86-vnni"] == ["Pad", "Transpose"]
    assert before["tensorrt"] == ["Cast", "Transpose", "Mul", "Sub", "Pad", "QuantizeLinear"]


def test_fp32_of_uint8_images_folds_their_scale_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, path = Small().eval(), tmp_path / "a.onnx"
    export_fp32(model, (3, 8, 8), path, levels=True)
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node][:4] == ["Cast", "Transpose", "Sub", "Conv"]
    with torch.no_grad():
        expected = model(torch.from_numpy(FLOATS)).numpy()
    came = logits(path, np.ascontiguousarray(LEVELS.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(came, expected, atol=1e-5)


def test_a_network_without_a_first_convolution_reads_levels_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, path = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval(), tmp_path / "a.onnx"
    export_fp32(model, (3, 8, 8), path)
    assert put_on_grid(onnx.load(path)) is None
    camera = np.ascontiguousarray(LEVELS.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(logits(as_uint8(path), camera), logits(path, FLOATS), atol=1e-5)
    int8 = quantised(path, "x86-vnni")
    np.testing.assert_allclose(logits(as_uint8(int8), camera), logits(int8, FLOATS), atol=1e-2)


class OfGrey(nn.Module):
    """A normalisation by three channels, which makes three of a grey image."""

    def __init__(self) -> None:
        super().__init__()
        self.small = Small()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.small(x)
        return logits


@pytest.mark.parametrize("target", ["x86", "tensorrt"])
def test_a_grey_image_that_becomes_three_channels_is_quantised(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, grey = tmp_path / "grey.onnx", FLOATS[:, :1]
    export_fp32(OfGrey().eval(), (1, 8, 8), path)
    assert put_on_grid(onnx.load(path)) is None
    int8 = tmp_path / f"{target}.onnx"
    quantize_int8(path, int8, grey, target)
    expected = logits(path, grey)
    assert np.abs(logits(int8, grey) - expected).max() < 0.1 * np.ptp(expected)
