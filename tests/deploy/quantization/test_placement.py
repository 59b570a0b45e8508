"""Where INT8 graphs round, and that the passes take roundings away and add none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.quantisation.fusion import float_layers
from deploy.lowering.graph import tidy
from deploy.onnx_export.export import export_fp32
from deploy.quantization.placement import free_output, join_activations, join_additions, place
from deploy.quantization.quantize import quantize_int8
from deploy.quantization.targets import TARGETS
from deploy.reading.network import Ends, read_network
from edge_bench.backends.base import ImageInput

STEPS = {"s1": 0.05, "s2": 0.03, "s3": 0.07}
WEIGHT = np.array([[0.7, -0.4], [-0.2, 0.9]], np.float32)


class Blocks(nn.Module):
    """A stem with ReLU6, a plain and a projected residual block, and a linear bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6())
        self.first = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.second = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 1))
        self.projection = nn.Conv2d(8, 12, 1)
        self.bottleneck = nn.Sequential(nn.Conv2d(12, 6, 1), nn.Conv2d(6, 12, 1))
        self.head = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem((x - 0.5) / 0.25)
        x = torch.relu(self.first(x) + x)
        x = torch.relu(self.second(x) + self.projection(x))
        x = x + self.bottleneck(x)
        logits: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network as FP32 and as INT8 for every target."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("quantised")
    found = {"fp32": folder / "fp32.onnx"}
    export_fp32(Blocks().eval(), (3, 8, 8), found["fp32"])
    images = np.random.default_rng(0).random((64, 3, 8, 8), np.float32)
    for target in TARGETS:
        found[target] = folder / f"{target}.onnx"
        quantize_int8(found["fp32"], found[target], images, target)
    return found


def operands(graph: onnx.GraphProto, op_types: set[str]) -> list[tuple[str, list[str]]]:
    """Op type of each such node, and the op types of what computes its inputs."""
    makers = {name: node.op_type for node in graph.node for name in node.output}
    return [
        (n.op_type, [makers.get(name, "constant") for name in n.input])
        for n in graph.node
        if n.op_type in op_types
    ]


def test_a_tensorrt_file_rounds_at_the_inputs_of_its_weighted_layers(
    quantised: dict[str, Path],
) -> None:
    graph = onnx.load(quantised["tensorrt"]).graph
    layers = operands(graph, {"Conv", "Gemm"})
    assert len(layers) == 9
    assert all(inputs[:2] == ["DequantizeLinear"] * 2 for _, inputs in layers)


def test_a_tensorrt_file_does_not_round_between_a_layer_and_its_activation(
    quantised: dict[str, Path],
) -> None:
    graph = onnx.load(quantised["tensorrt"]).graph
    found = operands(graph, {"Relu", "Clip"})
    assert sorted((op, inputs[0]) for op, inputs in found) == [
        ("Clip", "Conv"),
        ("Relu", "Add"),
        ("Relu", "Add"),
        ("Relu", "Conv"),
        ("Relu", "Conv"),
    ]


def test_a_tensorrt_file_rounds_the_residual_input_alone(quantised: dict[str, Path]) -> None:
    graph = onnx.load(quantised["tensorrt"]).graph
    found = operands(graph, {"Add"})
    assert [sorted(inputs) for _, inputs in found] == [["Conv", "DequantizeLinear"]] * 3


def test_no_constant_is_left_that_nothing_reads(quantised: dict[str, Path]) -> None:
    graph = onnx.load(quantised["tensorrt"]).graph
    used = {name for node in graph.node for name in node.input}
    assert {t.name for t in graph.initializer} <= used


@pytest.mark.parametrize("target", ["x86", "x86-vnni", "arm"])
def test_onnx_runtime_runs_every_layer_in_integers(target: str, quantised: dict[str, Path]) -> None:
    assert float_layers(quantised[target], TARGETS[target].session_options) == []


@pytest.mark.parametrize("target", TARGETS)
def test_logits_are_not_rounded(target: str, quantised: dict[str, Path]) -> None:
    graph = onnx.load(quantised[target]).graph
    (last,) = [node for node in graph.node if "logits" in node.output]
    assert last.op_type == "Gemm"
    images = np.random.default_rng(1).random((64, 3, 8, 8), np.float32)
    (logits,) = onnxruntime.InferenceSession(str(quantised[target])).run(None, {"images": images})
    # 256 levels could not tell so many apart.
    assert len(np.unique(logits)) > 250


def test_an_output_that_something_reads_or_nothing_rounds_stays() -> None:
    for body in (CONV.replace("c =", "y ="), CONV + pair("c", "s1") + "y = Relu(c_d)\n"):
        model = small(body)
        as_it_was = model.SerializeToString()
        assert not free_output(model.graph)
        assert model.SerializeToString() == as_it_was


def test_layers_that_run_in_float_are_named(quantised: dict[str, Path]) -> None:
    plain = float_layers(quantised["fp32"], {})
    assert plain.count("Conv") == 8
    checked = float_layers(quantised["tensorrt"], TARGETS["tensorrt"].session_options)
    assert checked.count("Conv") == 8


def pair(name: str, step: str) -> str:
    """A tensor's pair, in ONNX's text form: NAME to NAME_q to NAME_d."""
    return (
        f"{name}_q = QuantizeLinear({name}, {step}, zero)\n"
        f"{name}_d = DequantizeLinear({name}_q, {step}, zero)\n"
    )


def small(body: str, outputs: str = "float[n, 2, 4, 4] y") -> onnx.ModelProto:
    """A graph over x (n, 2, 4, 4) with one 1x1 convolution's weights and three steps."""
    head = '<ir_version: 9, opset_import: ["" : 18]>\n'
    text = f"{head}g (float[n, 2, 4, 4] x) => ({outputs}) {{\n{body}}}"
    model = onnx.parser.parse_model(text)
    constants: dict[str, Any] = {name: np.float32(step) for name, step in STEPS.items()}
    constants |= {"zero": np.int8(0), "w": WEIGHT[:, :, None, None]}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    return model


def run(
    model: onnx.ModelProto, x: NDArray[np.float32], images: str = "x", output: str = "y"
) -> NDArray[np.float32]:
    """What the graph computes as it is written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run([output], {images: x})[0])


def rounded(values: NDArray[np.float32], step: str) -> NDArray[np.float32]:
    """To the signed 8-bit grid of a step, in numpy."""
    size = np.float32(STEPS[step])
    return np.asarray(np.clip(np.rint(values / size), -128, 127) * size, np.float32)


def convolved(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("oc,nchw->nohw", WEIGHT, x), np.float32)


@pytest.fixture
def x() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(8, 2, 4, 4)).astype(np.float32)


@pytest.mark.parametrize("activation", ["Relu(c_d)", "Clip(c_d, low, high)"])
def test_a_joined_activation_is_rounded_once(activation: str, x: NDArray[np.float32]) -> None:
    body = "c = Conv(x, w)\n" + pair("c", "s1") + f"a = {activation}\n" + pair("a", "s2")
    model = small(body + "y = Identity(a_d)\n")
    high = np.inf
    if "Clip" in activation:
        high = 1.5
        for name, value in (("low", 0.0), ("high", high)):
            bound = onnx.numpy_helper.from_array(np.asarray(value, np.float32), name)
            model.graph.initializer.append(bound)
    before = run(model, x)
    assert join_activations(model.graph) == 1
    after = run(model, x)
    np.testing.assert_allclose(after, rounded(np.clip(convolved(x), 0, high), "s2"), atol=1e-6)
    exact = np.clip(convolved(x), 0, high)
    assert np.abs(after - exact).max() <= STEPS["s2"] / 2 + 1e-6
    assert np.abs(before - exact).max() > STEPS["s2"] / 2 + 1e-3


@pytest.mark.parametrize("order", ["c_d, x_d", "x_d, c_d"])
def test_a_joined_addition_rounds_its_residual_input_alone(
    order: str, x: NDArray[np.float32]
) -> None:
    model = small("c = Conv(x, w)\n" + pair("c", "s1") + pair("x", "s3") + f"y = Add({order})\n")
    assert join_additions(model.graph) == 1
    np.testing.assert_allclose(run(model, x), convolved(x) + rounded(x, "s3"), atol=1e-6)


def test_of_two_convolutions_the_first_operand_is_joined(x: NDArray[np.float32]) -> None:
    both = "c = Conv(x, w)\np = Conv(x, w)\n" + pair("c", "s1") + pair("p", "s3")
    model = small(both + "y = Add(c_d, p_d)\n")
    assert join_additions(model.graph) == 1
    expected = convolved(x) + rounded(convolved(x), "s3")
    np.testing.assert_allclose(run(model, x), expected, atol=1e-6)


CONV = "c = Conv(x, w)\n"


@pytest.mark.parametrize(
    "body",
    [
        CONV + pair("c", "s1") + "a = Relu(c_d)\ny = Add(a, c_d)\n",
        CONV
        + pair("c", "s1")
        + "b = DequantizeLinear(c_q, s1, zero)\na = Relu(c_d)\ny = Add(a, b)\n",
        CONV + pair("c", "s1") + "a = Relu(c_d)\ny = Add(a, c)\n",
        pair("x", "s1") + "y = Relu(x_d)\n",
        pair("x", "s1") + "n = Neg(x)\n" + pair("n", "s2") + "y = Add(x_d, n_d)\n",
        CONV + pair("c", "s1") + "y = Add(c_d, x)\n",
    ],
    ids=[
        "value read twice",
        "integers read twice",
        "unrounded read too",
        "input",
        "no conv",
        "float",
    ],
)
def test_what_something_else_reads_or_nothing_joins_stays(body: str) -> None:
    model = small(body)
    as_it_was = model.SerializeToString()
    assert join_activations(model.graph) + join_additions(model.graph) == 0
    assert model.SerializeToString() == as_it_was


def test_what_the_graph_gives_out_stays() -> None:
    outputs = "float[n, 2, 4, 4] y, float[n, 2, 4, 4] c_d"
    model = small(CONV + pair("c", "s1") + "y = Relu(c_d)\n", outputs)
    assert join_activations(model.graph) == 0


def test_constants_that_are_read_or_given_out_stay() -> None:
    model = small("y = Relu(x)\n", "float[n, 2, 4, 4] y, float s2")
    tidy(model.graph)
    assert [t.name for t in model.graph.initializer] == ["s2"]


def test_placing_twice_changes_nothing(quantised: dict[str, Path], tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    again.write_bytes(quantised["tensorrt"].read_bytes())
    place(again, for_tensorrt=True)
    assert onnx.load(again) == onnx.load(quantised["tensorrt"])


@pytest.mark.parametrize("target", TARGETS)
def test_a_norm_over_several_axes_computes_what_torch_does(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm([8, 8, 8])
    norm.weight.data.uniform_(0.5, 2)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm, nn.ReLU(), head).eval()
    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    export_fp32(network, (3, 8, 8), fp32)
    images = np.random.default_rng(0).random((64, 3, 8, 8), dtype=np.float32)
    quantize_int8(fp32, int8, images, target)
    # As the graph says, not as this processor's products of 8 bits may saturate.
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(int8), options)
    (found,) = session.run(None, {"images": images})
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    assert np.abs(found - expected).max() < 0.01 * np.ptp(expected)


@pytest.fixture(scope="module", params=[(4, 4, 1), (3, 2, 1), (4, 2, 2)])
def transposed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nn.Module, Path]:
    """A network with a transposed convolution of (outputs, kernel width, groups), and as FP32.

    One of its channels is larger than the rest, so that a scale for all or of another would show.
    """
    outputs, kernel, groups = request.param
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(8, outputs, kernel, stride=2, groups=groups)
    after = nn.Conv2d(outputs, 8, 3)
    if groups == 1:
        up.weight.data[:, 0] *= 30
        after.weight.data[:, 0] /= 30
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    before = nn.Conv2d(3, 8, 3, padding=1)
    network = nn.Sequential(before, nn.ReLU(), up, nn.ReLU(), after, head).eval()
    fp32 = tmp_path_factory.mktemp("transposed") / "fp32.onnx"
    export_fp32(network, (3, 8, 8), fp32)
    return network, fp32


@pytest.mark.parametrize("target", TARGETS)
def test_a_transposed_convolution_computes_what_torch_does(
    target: str, transposed: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    network, fp32 = transposed
    images = np.random.default_rng(0).random((16, 3, 8, 8), np.float32)
    path = tmp_path / "int8.onnx"
    quantize_int8(fp32, path, images, target)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    came = run(onnx.load(path), images, "images", "logits")
    assert np.abs(came - expected).max() < 0.03 * np.ptp(expected)

    declared = ImageInput(
        name="images",
        dtype="float32",
        channels_last=False,
        image_shape=(3, 8, 8),
        batch_size=None,
    )
    read = read_network(path, Ends(input=declared, output="logits"))
    with torch.no_grad():
        found = read(torch.from_numpy(images)).numpy()
    assert np.abs(found - came).max() < 0.005 * np.ptp(expected)
