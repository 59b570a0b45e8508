"""Activations that no calibration image moves: INT8 keeps them at 0, as the network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from deploy.onnx_export.export import export_fp32
from deploy.quantization.quantize import Quantiser
from deploy.quantization.targets import TARGETS
from deploy.quantization.twin import TARGET, make_weights_unsigned
from edge_bench import devices
from edge_bench.devices.generic import has_vnni


class Resting(nn.Module):
    """A residual branch whose activation is 0 for every image, as weight decay may leave it."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), activation, nn.Conv2d(8, 8, 1))
        self.head = nn.Linear(8, 4)
        nn.init.constant_(self.branch[0].bias, -50.0)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        logits: torch.Tensor = self.head((x + self.branch(x)).mean(dim=(2, 3)))
        return logits


@pytest.mark.parametrize(
    ("activation", "method"),
    [(nn.ReLU(), "minmax"), (nn.ReLU6(), "minmax"), (nn.ReLU(), "percentile")],
)
def test_an_activation_at_rest_stays_there_for_every_target(
    tmp_path: Path, activation: nn.Module, method: str
) -> None:
    torch.manual_seed(0)
    fp32 = tmp_path / "fp32.onnx"
    export_fp32(Resting(activation).eval(), (3, 8, 8), fp32)
    images = np.random.default_rng(0).random((32, 3, 8, 8), np.float32)
    expected = _logits(fp32, images, {})
    for name, target in TARGETS.items():
        int8 = tmp_path / f"{name}.onnx"
        Quantiser(fp32, tmp_path, images, name, method).make(int8)
        if name == TARGET and not has_vnni(devices.ROOT):
            # Its products would saturate here, as the test of its twin shows.
            twin = onnx.load(int8)
            make_weights_unsigned(twin.graph)
            onnx.save(twin, int8)
        logits = _logits(int8, images, target.session_options)
        assert np.abs(logits - expected).max() < 0.05 * np.ptp(expected), name
        # The quantiser drops the activation where saturation does its work: then 0 is the least.
        if name == "arm":
            assert "Relu" not in (node.op_type for node in onnx.load(int8).graph.node)
            assert -128 in _zero_points(int8)


def _logits(
    path: Path, images: NDArray[np.float32], entries: dict[str, str]
) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(str(path), options)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(logits)


def _zero_points(path: Path) -> list[int]:
    graph = onnx.load(path).graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return [int(known[n.input[2]]) for n in graph.node if n.op_type == "QuantizeLinear"]
