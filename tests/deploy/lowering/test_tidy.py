"""What is constant is folded, and the graph still computes what torch computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from ard.models.architectures import PreActResNet18, build_model
from ard.models.published.swish_resnets import SwishWideResNet
from ard.models.published.wide_resnets import WideResNet
from deploy.lowering.tidy import lay_biases_in_rows
from deploy.onnx_export.export import export_fp32

MEAN = torch.tensor([0.49, 0.48, 0.45]).reshape(3, 1, 1)
STD = torch.tensor([0.25, 0.24, 0.26]).reshape(3, 1, 1)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet8": lambda: build_model("resnet8:4", 3, 4, MEAN, STD),
    "preact_resnet18": lambda: PreActResNet18(3, 4, ends_activated=True),
    "wide resnet": lambda: WideResNet(10, 1, 3, 4),
    "wide resnet with swish": lambda: SwishWideResNet(10, 1, 3, 4),
}


class Stem(nn.Module):
    """A padded convolution of images that `prepare` has changed."""

    def __init__(self, prepare: Callable[[Tensor], Tensor], padding: int = 1) -> None:
        super().__init__()
        self.prepare = prepare
        self.conv = nn.Conv2d(3, 4, 3, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.conv(self.prepare(x)).flatten(1)[:, :40]
        return logits


def exported(model: nn.Module, path: Path) -> onnx.GraphProto:
    """The fp32 graph of a model, after a look that it computes the same at two batch sizes."""
    export_fp32(model.eval(), (3, 8, 8), path)
    session = onnxruntime.InferenceSession(str(path))
    for count in (1, 5):
        images = torch.rand(count, 3, 8, 8)
        with torch.no_grad():
            expected = model(images).numpy()
        (came,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(came, expected, atol=1e-4 * max(np.ptp(expected), 1))
    return onnx.load(path).graph


@pytest.mark.parametrize("name", NETWORKS)
def test_no_batch_normalisation_is_left_in_any_kind_of_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            layer.running_mean = torch.randn(layer.num_features) / 4
            layer.running_var = torch.rand(layer.num_features) + 0.5
    graph = exported(model, tmp_path / "a.onnx")
    kinds = {node.op_type for node in graph.node}
    assert not kinds & {"BatchNormalization", "Identity", "Dropout", "Div", "Cast", "Constant"}
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read


@pytest.mark.parametrize(
    "prepare",
    [
        lambda x: (x - MEAN) / STD,
        lambda x: x * 2 - 1,
        lambda x: (0.5 - x) / 0.25 + 3,
        lambda x: (x * 255 - MEAN * 255) / STD * 0.01,
    ],
)
def test_the_normalisation_of_images_is_one_subtraction(
    prepare: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    graph = exported(Stem(prepare), tmp_path / "a.onnx")
    assert [node.op_type for node in graph.node][:2] == ["Sub", "Conv"]


@pytest.mark.parametrize(
    "prepare",
    [
        lambda x: x.clamp(0.2, 0.8),
        lambda x: x * x.mean(),
        lambda x: x * torch.linspace(0, 1, 8),
        lambda x: x + x.flip(3),
    ],
)
def test_what_is_no_change_by_channel_is_left_as_it_is(
    prepare: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    graph = exported(Stem(prepare), tmp_path / "a.onnx")
    assert "Sub" not in {node.op_type for node in graph.node}


@pytest.mark.parametrize("shape", [(1, 5), (), (1,), (1, 1)])
@pytest.mark.parametrize("transposed", [0, 1])
def test_the_bias_of_a_gemm_becomes_a_row(shape: tuple[int, ...], transposed: int) -> None:
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(5, 7) if transposed else (7, 5)).astype(np.float32)
    bias = draw.normal(size=shape).astype(np.float32)
    node = onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=transposed)
    first, last = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("n", size))]
        for name, size in (("x", 7), ("y", 5))
    )
    held = [
        onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in (("w", weight), ("b", bias))
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", first, last, held),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=8,
    )
    x = draw.normal(size=(3, 7)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})

    lay_biases_in_rows(model)

    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    rows = [tuple(held.dims) for held in model.graph.initializer if held.name != "w"]
    assert rows == [shape if shape == (1,) else (5,)]


class Standardised(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019, arXiv 1903.10520), by torch's batch_norm."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = nn.functional.batch_norm(rows, None, None, training=True)
        return nn.functional.conv2d(x, weight.reshape_as(self.weight), padding=self.padding)


def test_weights_that_are_made_in_the_graph_stay_so(tmp_path: Path) -> None:
    """The exporter folds small ones alone; and their statistics are not of a batch of images."""
    torch.manual_seed(0)
    made: dict[str, nn.Conv2d] = {
        "normalised": nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 256, 7, padding=3)),
        "standardised": Standardised(3, 64, 7, padding=3),
    }
    for name, conv in made.items():
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        model = Prepared(nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), head))
        exported(model, tmp_path / f"{name}.onnx")


class Prepared(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network((x - MEAN) / STD)
        return logits


class InDoubles(nn.Module):
    """Float64 within, and a batch normalisation that no convolution takes up."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 4)
        self.network = nn.Sequential(*layers).double()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network((x.double() - 0.5) / 0.25)
        return logits.float()


def test_a_part_in_float64_is_left_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    exported(InDoubles(), tmp_path / "doubles.onnx")
