"""A QDQ graph as a torch network: what ONNX Runtime computes is what is trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType
from torch import Tensor, nn

from deploy.lowering.pixels import STEP, read_levels
from deploy.onnx_export.export import export_fp32
from deploy.qat.fake_quant import FakeQuantiser
from deploy.qat.graph_ops import OPERATORS
from deploy.qat.qdq_layout import Arrays, arrays_of
from deploy.qat.qdq_network import GRAPH, QDQNetwork
from deploy.quantization.quantize import Quantiser
from deploy.quantization.targets import TARGETS
from deploy.quantization.twin import make_weights_unsigned
from edge_bench.core.errors import InputError

IMAGE_SCALE = "quantisers.constant_channel/output_scale.scale"


class Net(nn.Module):
    """What a quantiser meets: a strided projection, ReLU6, an addition, BN alone, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=4), nn.BatchNorm2d(8))
        self.skip = nn.Conv2d(8, 8, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem((x - 0.5) / 0.25)
        x = self.body(x) + self.skip(x)
        x = torch.max_pool2d(torch.relu(self.norm(x)), 3, 2, 1)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return 20 * logits


def noise(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        # Fresh ones are all 1, on which rounding has nothing to do.
        model.norm.weight.uniform_(0.5, 1.5)
        for _ in range(20):
            model(torch.rand(32, 3, 8, 8))
    path = tmp_path_factory.mktemp("fp32") / "net.onnx"
    export_fp32(model.eval(), (3, 8, 8), path)
    return path


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A file, its target, and the weights before they were rounded."""

    target: str
    path: Path
    floats: Arrays


def quantised(fp32: Path, folder: Path, target: str) -> Quantised:
    maker = Quantiser(fp32, folder, noise(64, 1).numpy(), target)
    maker.make(folder / "int8.onnx")
    floats = arrays_of(onnx.load(maker.prepared).graph)
    return Quantised(target=target, path=folder / "int8.onnx", floats=floats)


@pytest.fixture(scope="module", params=TARGETS)
def int8(
    request: pytest.FixtureRequest, fp32: Path, tmp_path_factory: pytest.TempPathFactory
) -> Quantised:
    return quantised(fp32, tmp_path_factory.mktemp(request.param), request.param)


def network(int8: Quantised, floats: Arrays | None = None) -> QDQNetwork:
    return QDQNetwork(onnx.load(int8.path), int8.target, floats).eval()


def moved(network: QDQNetwork) -> QDQNetwork:
    """As training would leave it: every weight, bias and scale is another."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
    return network


def runtime(
    model: onnx.ModelProto, target: str, *, optimised: bool = True
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for entry in TARGETS[target].session_options.items():
        options.add_session_config_entry(*entry)
    if target == "x86-vnni":
        # The same sums, on processors without VNNI too.
        model = copy.deepcopy(model)
        make_weights_unsigned(model.graph)
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def test_what_was_learnt_runs_as_it_was_trained(int8: Quantised) -> None:
    learnt = moved(network(int8, int8.floats))
    images = noise(1000, 3)
    session = runtime(learnt.filled(), int8.target)
    (theirs,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        ours = learnt(images).numpy()
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.999
    # Logits are 20 times what the head gives, which is rounded.
    step = 20 * learnt.quantiser("linear_scale").step().item()
    # A value at the middle between two integers falls to either side by a rounding error of fp32.
    assert np.abs(ours - theirs).max() < 4.5 * step
    assert np.isclose(ours, theirs, atol=step / 2).mean() > 0.97


def test_every_point_is_rounded_to_the_runtimes_integers(int8: Quantised) -> None:
    learnt = moved(network(int8, int8.floats))
    graph = learnt.filled()
    points = [node for node in graph.graph.node if node.op_type == "QuantizeLinear"]
    arrays = arrays_of(graph.graph)
    for node in points:
        kind = helper.np_dtype_to_tensor_dtype(arrays[node.input[2]].dtype)
        graph.graph.output.append(helper.make_tensor_value_info(node.output[0], kind, None))
    names = [node.output[0] for node in points]
    images = noise(20, 3)
    session = runtime(graph, int8.target, optimised=False)
    theirs = dict(zip(names, session.run(names, {"images": images.numpy()}), strict=True))
    ours = _integers_of(learnt, {node.input[1] for node in points}, images)
    assert sum(map(len, ours.values())) == len(points) > 5
    for node in points:
        # What a pooling gives has the scale of what it was given, and comes after it.
        levels, zero = ours[node.input[1]].pop(0), int(arrays[node.input[2]])
        expected = theirs[node.output[0]].astype(int) - zero
        assert np.abs(levels - expected).max() <= 1
        assert (levels == expected).mean() > 0.999


def _integers_of(
    network: QDQNetwork, names: set[str], images: Tensor
) -> dict[str, list[NDArray[Any]]]:
    """What quantisers give, in order, by the name of their scale."""
    found: dict[str, list[NDArray[Any]]] = {}

    def noted(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def note(module: nn.Module, _: Any, values: Tensor) -> None:
            assert isinstance(module, FakeQuantiser)
            levels = (values / module.step()).round().detach().numpy().astype(int)
            found.setdefault(name, []).append(levels)

        return note

    for name in names:
        network.quantiser(name).register_forward_hook(noted(name))
    with torch.no_grad():
        network(images)
    return found


def test_nothing_learnt_is_the_quantised_file_itself(int8: Quantised) -> None:
    before = arrays_of(onnx.load(int8.path).graph)
    after = arrays_of(network(int8, int8.floats).filled().graph)
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert after[name].dtype == array.dtype
        assert np.array_equal(after[name], array), name


def test_learnt_weights_stay_in_the_targets_range(int8: Quantised) -> None:
    learnt = network(int8)
    with torch.no_grad():
        for weight in learnt.weights.values():
            weight.mul_(5)
    stem = arrays_of(learnt.filled().graph)["stem.0.weight_quantized"]
    bound = 64 if TARGETS[int8.target].reduce_range else 127
    assert (stem.min(), stem.max()) == (-bound, bound)


def test_training_starts_from_the_weights_before_they_were_rounded(int8: Quantised) -> None:
    found = network(int8, int8.floats).weights
    names = {name.removesuffix("_quantized").replace("/", ".") for name in found}
    assert {"stem.0.weight", "stem.0.bias", "body.0.weight", "skip.weight", "head.bias"} < names
    for name, weights in found.items():
        before = int8.floats[name.removesuffix("_quantized").replace("/", ".")]
        assert np.array_equal(weights.detach().numpy(), before), name
    # Weights that a pass has changed since are not the float ones, and are taken as they are.
    doubled = {name: 2 * array for name, array in int8.floats.items()}
    kept = QDQNetwork(onnx.load(int8.path), int8.target, doubled).weights["skip/weight_quantized"]
    without = network(int8).weights["skip/weight_quantized"]
    assert torch.equal(kept, without)


def test_every_weight_and_scale_learns(int8: Quantised) -> None:
    # Off the middle of each step, where a scale has no gradient.
    learnt = moved(network(int8))
    learnt(noise(8, 4)).square().sum().backward()
    gradients = {name: p.grad for name, p in learnt.named_parameters()}
    assert [name for name, g in gradients.items() if g is None or not g.any()] == []
    # By pixel values and by the constant channel; a normalisation alone is a convolution by then.
    stem = gradients["weights.stem/0/weight_quantized"]
    assert stem is not None
    assert stem.shape == (8, 4, 3, 3)
    assert stem.any(dim=(0, 2, 3)).all()
    assert sum("batch_norm" in name and "weight_quantized" in name for name in gradients) == 1


def test_black_and_white_pixels_pass_a_gradient_and_their_scale_stays(int8: Quantised) -> None:
    learnt = network(int8, int8.floats)
    names = [name for name, _ in learnt.named_parameters()]
    assert IMAGE_SCALE not in names
    assert learnt.state_dict()[IMAGE_SCALE] == STEP
    images = noise(8, 4)
    extreme = (images < 0.05) | (images > 0.95)
    images = torch.where(extreme, images.round(), images).requires_grad_()
    learnt(images).square().sum().backward()
    assert images.grad is not None
    assert (images.grad[extreme] != 0).float().mean() > 0.95


def test_pixels_off_the_grid_pass_a_gradient_too(tmp_path: Path) -> None:
    """As of a network that begins with no convolution, where ranges come from calibration."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()
    export_fp32(model, (3, 8, 8), tmp_path / "fp32.onnx")
    images = noise(8, 4).round().requires_grad_()
    maker = Quantiser(tmp_path / "fp32.onnx", tmp_path, noise(64, 1).numpy() * 0.9, "x86")
    maker.make(tmp_path / "int8.onnx")
    learnt = QDQNetwork(onnx.load(tmp_path / "int8.onnx"), "x86")
    assert [name for name, _ in learnt.named_parameters() if "images" in name] == []
    learnt(images).square().sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).float().mean() > 0.95


def test_what_was_learnt_reads_levels_as_it_reads_floats(int8: Quantised) -> None:
    graph = moved(network(int8, int8.floats)).filled()
    levels = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    floats = {"images": levels.astype(np.float32) / 255}
    (expected,) = runtime(graph, int8.target).run(None, floats)
    read_levels(graph)
    (found,) = runtime(graph, int8.target).run(None, {"images": levels.transpose(0, 2, 3, 1)})
    assert np.array_equal(found, expected)
    # Unsigned levels are the integers themselves, also by the scale that training left alone.
    kinds = {node.op_type for node in graph.graph.node}
    assert ("Cast" in kinds) == (TARGETS[int8.target].activations == QuantType.QInt8)


def test_a_copy_has_weights_and_scales_of_its_own(int8: Quantised) -> None:
    first, images = network(int8), noise(8, 4)
    with torch.no_grad():
        before = first(images)
        second = copy.deepcopy(first)
        moved(first)
        assert torch.equal(second(images), before)
        assert not torch.equal(first(images), before)


def test_a_state_dict_carries_the_whole_network(int8: Quantised) -> None:
    learnt = moved(network(int8, int8.floats))
    again = QDQNetwork.of_state(learnt.state_dict(), int8.target, "w.safetensors")
    images = noise(8, 4)
    with torch.no_grad():
        assert torch.equal(again(images), learnt(images))
    assert again.filled().SerializeToString() == learnt.filled().SerializeToString()


def test_a_damaged_state_dict_is_refused(fp32: Path, tmp_path: Path) -> None:
    state = network(quantised(fp32, tmp_path, "arm")).state_dict()
    assert IMAGE_SCALE in state
    fewer = {name: t for name, t in state.items() if name != IMAGE_SCALE}
    broken = state | {GRAPH: state[GRAPH][: len(state[GRAPH]) // 2]}
    for damaged in (fewer, broken, {}):
        with pytest.raises(InputError, match=r"w\.safetensors: its card says .* INT8 for arm"):
            QDQNetwork.of_state(damaged, "arm", "w.safetensors")


def single(
    operator: str, shapes: list[tuple[int, ...]], extra: list[NDArray[Any]], **attributes: Any
) -> onnx.ModelProto:
    """A graph of one operator whose first input is the image, the others constants."""
    generator = np.random.default_rng(0)
    arrays = [generator.random(shape).astype(np.float32) + 0.5 for shape in shapes] + extra
    constants = [numpy_helper.from_array(a, f"c{i}") for i, a in enumerate(arrays)]
    names = ["images", *(c.name for c in constants)]
    values = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("images", "logits")
    ]
    node = helper.make_node(operator, names, ["logits"], **attributes)
    graph = helper.make_graph([node], "one", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


IMAGE, FLAT = (2, 3, 8, 8), (2, 6)
SAME = (1, 3, 1, 1)
Shape = tuple[int, ...]
SIX = np.linspace(0.5, 2, 24, dtype=np.float32).reshape(4, 6)
"""Scale, bias, mean and variance of six channels."""
ONE_OPERATOR: list[tuple[str, Shape, list[Shape], list[Any], dict[str, Any]]] = [
    ("Add", IMAGE, [SAME], [], {}),
    ("AveragePool", IMAGE, [], [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    ("AveragePool", IMAGE, [], [], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1]}),
    ("Pad", IMAGE, [], [np.array([0, 0, 1, 1, 0, 0, 1, 1])], {"mode": "reflect"}),
    (
        "AveragePool",
        IMAGE,
        [],
        [],
        {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1},
    ),
    *(
        ("BatchNormalization", image, [], list(SIX), {"epsilon": 1e-3})
        for image in (FLAT, (2, 6, 5))
    ),
    ("Clip", IMAGE, [], [np.float32(0.2), np.float32(0.7)], {}),
    ("Concat", IMAGE, [(2, 1, 8, 8)], [], {"axis": 1}),
    ("Conv", IMAGE, [(4, 3, 3, 3), (4,)], [], {"pads": [1] * 4, "strides": [2, 1]}),
    ("Conv", IMAGE, [(4, 3, 3, 3)], [], {"pads": [0, 1, 1, 2], "dilations": [2, 1]}),
    ("Conv", IMAGE, [(6, 1, 1, 1)], [], {"group": 3, "strides": [2, 2]}),
    ("Div", IMAGE, [SAME], [], {}),
    ("Flatten", IMAGE, [], [], {}),
    ("Flatten", IMAGE, [], [], {"axis": 2}),
    ("Gemm", FLAT, [(6, 4), (4,)], [], {"alpha": 0.5, "beta": 2.0}),
    ("Gemm", FLAT, [(4, 6)], [], {"transB": 1}),
    ("Gemm", FLAT, [(2, 4), (4,)], [], {"transA": 1}),
    ("GlobalAveragePool", IMAGE, [], [], {}),
    ("HardSigmoid", IMAGE, [], [], {"alpha": 1 / 6}),
    ("HardSwish", IMAGE, [], [], {}),
    ("Identity", IMAGE, [], [], {}),
    ("LeakyRelu", IMAGE, [], [], {"alpha": 0.1}),
    ("MatMul", FLAT, [(6, 4)], [], {}),
    (
        "MaxPool",
        IMAGE,
        [],
        [],
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 0},
    ),
    ("MaxPool", IMAGE, [], [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("Mul", IMAGE, [SAME], [], {}),
    ("Pad", IMAGE, [], [np.array([0, 0, 0, 0, 0, 1, 0, 0]), np.float32(0.5)], {}),
    ("Pad", IMAGE, [], [np.array([0, 0, 1, 2, 0, 0, 3, 4])], {}),
    ("Pad", IMAGE, [], [np.array([0, 1, -1, 0, 0, 0, 2, -3]), np.float32(-2)], {}),
    ("Pad", IMAGE, [], [np.array([1, 2, 3, 4]), np.float32(1), np.array([-1, 2])], {}),
    ("ReduceMean", IMAGE, [], [np.array([2, 3])], {"keepdims": 0}),
    ("ReduceMean", IMAGE, [], [], {}),
    ("Relu", IMAGE, [], [], {}),
    ("Reshape", IMAGE, [], [np.array([0, -1])], {}),
    ("Sigmoid", IMAGE, [], [], {}),
    ("Squeeze", (2, 6, 1, 1), [], [np.array([2, 3])], {}),
    ("Sub", IMAGE, [SAME], [], {}),
    ("Transpose", IMAGE, [], [], {"perm": [0, 2, 3, 1]}),
]


@pytest.mark.parametrize(("operator", "image", "shapes", "extra", "attributes"), ONE_OPERATOR)
def test_an_operator_computes_what_it_does_in_the_runtime(
    operator: str,
    image: tuple[int, ...],
    shapes: list[tuple[int, ...]],
    extra: list[Any],
    attributes: dict[str, Any],
) -> None:
    model = single(operator, shapes, extra, **attributes)
    images = torch.randn(image, generator=torch.Generator().manual_seed(0))
    (expected,) = runtime(model, "arm").run(None, {"images": images.numpy()})
    found = QDQNetwork(model, "arm")(images).detach()
    assert found.shape == expected.shape
    assert np.allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_every_operator_is_held_against_the_runtime() -> None:
    assert {entry[0] for entry in ONE_OPERATOR} == OPERATORS.keys()


def test_an_operator_that_cannot_be_trained_is_named() -> None:
    with pytest.raises(InputError, match=r"the ONNX operator Erf, which cannot be trained"):
        QDQNetwork(single("Erf", [], []), "arm")
