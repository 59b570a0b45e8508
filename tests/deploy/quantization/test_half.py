"""FP16 graphs: what is float16 in them, and what stays float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from deploy.onnx_export.export import export_fp32
from deploy.quantization.half import HalfMaker

IMAGES = np.random.default_rng(0).random((20, 3, 8, 8), dtype=np.float32)
FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def exported(folder: Path, gain: float = 1.0) -> Path:
    """Two convolutions, of which the first multiplies by `gain` and the second divides; a head."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.Flatten(),
        nn.Linear(512, 4),
    ).eval()
    with torch.no_grad():
        model.get_parameter("0.weight").mul_(gain)
        model.get_parameter("2.weight").div_(gain)
    path = folder / "fp32.onnx"
    export_fp32(model, (3, 8, 8), path)
    return path


def weights(path: Path) -> dict[str, int]:
    """Element type of the weights of each node that has some."""
    graph = onnx.load(path).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    named = [n for n in graph.node if n.op_type in ("Conv", "Gemm")]
    return {node.name: types[node.input[1]] for node in named}


def logits(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    session = onnxruntime.InferenceSession(str(path))
    (found,) = session.run(None, {"images": IMAGES})
    return np.asarray(found)


def test_everything_is_float16_but_the_input_and_the_output(tmp_path: Path) -> None:
    fp32, fp16 = exported(tmp_path), tmp_path / "fp16.onnx"
    maker = HalfMaker(fp32, tmp_path, IMAGES)
    maker.make(fp16)
    assert maker.too_large == set()
    model = onnx.load(fp16)
    onnx.checker.check_model(model, full_check=True)
    ends = [*model.graph.input, *model.graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {FLOAT}
    assert set(weights(fp16).values()) == {FLOAT16}
    assert [n.op_type for n in model.graph.node].count("Cast") == 2
    difference = np.abs(logits(fp16) - logits(fp32)).max()
    assert 0 < difference < 5e-3 * np.ptp(logits(fp32))


def test_layers_that_are_chosen_stay_in_float32(tmp_path: Path) -> None:
    fp32, fp16 = exported(tmp_path), tmp_path / "fp16.onnx"
    first, second, head = weights(fp32)
    maker = HalfMaker(fp32, tmp_path, IMAGES)
    (layer,) = [each for each in maker.layers if second in each.nodes]
    maker.make(fp16, [layer])
    assert weights(fp16) == {first: FLOAT16, second: FLOAT, head: FLOAT16}
    onnx.checker.check_model(onnx.load(fp16), full_check=True)


def test_what_float16_cannot_hold_stays_in_float32(tmp_path: Path) -> None:
    fp32, fp16 = exported(tmp_path, gain=1e5), tmp_path / "fp16.onnx"
    first, second, head = weights(fp32)
    maker = HalfMaker(fp32, tmp_path, IMAGES)
    maker.make(fp16)
    assert {first, second} <= maker.too_large
    assert weights(fp16) == {first: FLOAT, second: FLOAT, head: FLOAT16}
    assert np.abs(logits(fp16) - logits(fp32)).max() < 5e-3 * np.ptp(logits(fp32))


class Bounded(nn.Module):
    """A maximum and a running sum, which the converter leaves in float32, between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        x = torch.maximum(x, torch.minimum(2 * x, torch.ones_like(x))).cumsum(1)
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


def test_what_the_converter_leaves_in_float32_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fp32, fp16 = tmp_path / "fp32.onnx", tmp_path / "fp16.onnx"
    export_fp32(Bounded().eval(), (3, 8, 8), fp32)
    maker = HalfMaker(fp32, tmp_path, IMAGES)
    maker.make(fp16)
    graph = onnx.shape_inference.infer_shapes(onnx.load(fp16)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    left = {
        node.name
        for node in graph.node
        if node.op_type != "Cast" and any(types.get(name) == FLOAT for name in node.output)
    }
    assert left == maker.in_float32
    assert len(left) >= 2


class Attends(nn.Module):
    """Self-attention among places, as every vision transformer has it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 16, H, W) to (B, H * W, 16)."""
        tokens = x.flatten(2).transpose(1, 2)
        told = self.norm(tokens)
        found: torch.Tensor = tokens + self.attention(told, told, told, need_weights=False)[0]
        return found


def test_self_attention_runs_and_its_weights_are_float16(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 16, 3, stride=2), Attends(), nn.Flatten(), nn.Linear(144, 4)]
    fp32, fp16 = tmp_path / "fp32.onnx", tmp_path / "fp16.onnx"
    export_fp32(nn.Sequential(*parts).eval(), (3, 8, 8), fp32)
    HalfMaker(fp32, tmp_path, IMAGES).make(fp16)
    # ONNX Runtime ended the process here.
    difference = np.abs(logits(fp16) - logits(fp32)).max()
    assert 0 < difference < 5e-3 * np.ptp(logits(fp32))
    graph = onnx.load(fp16).graph
    assert {t.data_type for t in graph.initializer if len(t.dims) == 2} == {FLOAT16}
