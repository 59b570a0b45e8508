"""An INT8 graph of convolutions, exported for TensorRT, as a real engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from deploy.lowering.pixels import read_levels
from deploy.onnx_export.export import export_fp32, finish
from deploy.quantization.quantize import quantize_int8
from edge_bench.backends import open_backend
from edge_bench.backends.engine import tensorrt_here
from edge_bench.backends.trt import outside_of
from edge_bench.core.errors import CapabilityError
from edge_bench.core.spec import ModelCard
from edge_bench.options.engine import EngineOptions

SHAPE = (3, 16, 16)


@pytest.fixture
def graphs(tmp_path: Path) -> tuple[Path, Path]:
    """A small network of convolutions as fp32, and as int8 for TensorRT."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    ).eval()
    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    export_fp32(model, SHAPE, fp32)
    quantize_int8(fp32, int8, images(64), "tensorrt")
    return fp32, int8


def images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).random((count, *SHAPE), dtype=np.float32)


def test_an_engine_s_shapes_are_read_from_exported_graphs(graphs: tuple[Path, Path]) -> None:
    for path in graphs:
        outside, _ = outside_of(path)
        assert (outside.input, outside.output) == ("images", "logits")
        assert (outside.image_shape, outside.batch_size, outside.classes) == (SHAPE, None, 5)


def test_an_engine_s_shapes_are_read_from_graphs_of_uint8_images_bound_to_a_batch(
    graphs: tuple[Path, Path],
) -> None:
    card = ModelCard(architecture="test", dataset="noise", classes=5, input_shape=SHAPE)
    for path in graphs:
        model = onnx.load(path)
        read_levels(model)
        onnx.save(model, path)
        finish(path, card, batch_size=4)
        outside, found = outside_of(path)
        assert (outside.dtype, outside.channels_last) == ("uint8", True)
        assert (outside.image_shape, outside.batch_size, outside.classes) == (SHAPE, 4, 5)
        assert found == card
        # TensorRT's uint8 is for the input alone.
        (first,) = [node.op_type for node in model.graph.node if "images" in node.input]
        assert first == "Cast"


@pytest.mark.tensorrt
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_engines_of_fp32_and_int8_answer_as_onnx_runtime_does(
    graphs: tuple[Path, Path], tmp_path: Path
) -> None:
    try:
        tensorrt_here()
    except CapabilityError as error:
        pytest.skip(str(error))
    batch = images(64)
    options = EngineOptions(cache=tmp_path / "engines", max_batch=64)
    for path, tolerance in zip(graphs, (1e-3, 5e-2), strict=True):
        with open_backend("ort", path, 1) as reference:
            expected = reference.infer(batch)
        with open_backend("trt", path, None, options) as backend:
            came = backend.infer(batch)
        span = float(np.ptp(expected))
        np.testing.assert_allclose(came, expected, atol=tolerance * span)
