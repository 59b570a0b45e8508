"""Whole graphs: how images enter, where logits leave, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from deploy.reading.ending import without_softmax
from deploy.reading.graph import UnreadError
from deploy.reading.integers import quantised
from tests.deploy.reading.graphs import (
    SHAPE,
    classifier_around,
    images_of,
    model_of,
    network_of,
    node,
    run,
    session_of,
)

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
"""Classifiers of the model zoo (opset 9) that come with the onnx package, their weights alike."""


def drawn(*shape: int) -> Any:
    return np.random.default_rng(2).normal(0, 0.3, shape).astype(np.float32)


def tensor(images: Any) -> torch.Tensor:
    """What the runtime takes, as images (B, C, H, W) in [0, 1]."""
    scaled = images / 255 if images.dtype == np.uint8 else images
    return torch.from_numpy(np.asarray(scaled, np.float32))


def close(model: onnx.ModelProto, images: Any, found: torch.Tensor, allowed: float = 1e-5) -> None:
    np.testing.assert_allclose(
        found.detach().numpy(), run(model, images), rtol=allowed, atol=allowed
    )


CONVOLUTION = [node("Conv", "x w", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "y")]


def test_channels_may_come_last() -> None:
    nodes = [node("Transpose", "images", "x", perm=[0, 3, 1, 2]), *CONVOLUTION]
    model = classifier_around(nodes, {"w": drawn(4, 3, 3, 3)}, opset=13, shape=("n", 6, 5, 3))
    images = images_of(3, (None, 6, 5, 3))

    close(model, images, network_of(model)(tensor(images.transpose(0, 3, 1, 2))))


def test_levels_of_8_bits_are_read_and_moved() -> None:
    nodes = [node("Cast", "images", "f", to=1), node("Div", "f whole", "x"), *CONVOLUTION]
    constants = {"w": drawn(4, 3, 3, 3), "whole": np.float32(255)}
    model = classifier_around(nodes, constants, opset=13, kind="uint8")
    images = images_of(3, (None, *SHAPE), "uint8")
    asked = tensor(images).requires_grad_()

    found = network_of(model)(asked)

    close(model, images, found)
    (gradient,) = torch.autograd.grad(found.sum(), asked)
    assert (gradient != 0).any(dim=(1, 2, 3)).all()


def test_float16_is_computed_in_float32() -> None:
    nodes = [*CONVOLUTION[:1], node("Relu", "c", "h"), node("Cast", "h", "y", to=1)]
    nodes[0] = node("Conv", "images w", "c", pads=[1, 1, 1, 1])
    constants = {"w": drawn(4, 3, 3, 3).astype(np.float16)}
    model = classifier_around(nodes, constants, opset=13, kind="float16")
    images = images_of(3, (None, *SHAPE), "float16")
    network = network_of(model)

    assert network.is_half
    assert network.weights.get_buffer("w").dtype == torch.float32
    close(model, images, network(tensor(images)), 3e-3)


def test_a_normalisation_outside_is_done_first() -> None:
    model = classifier_around([node("Conv", "images w", "y")], {"w": drawn(4, 3, 3, 3)}, opset=9)
    images = images_of(2, (None, *SHAPE))
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    given = (images - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))

    network = network_of(model, mean=mean, std=std)

    close(model, given.astype(np.float32), network(tensor(images)))


@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize("shape", [(-1, 90), (0, -1), "fixed", "fixed, rest open"])
def test_a_fixed_batch_size_is_freed(size: int, shape: Any) -> None:
    asked = {"fixed": (size, 90), "fixed, rest open": (size, -1)}.get(shape, shape)
    nodes = [node("Relu", "images", "r"), node("Reshape", "r s", "y")]
    constants = {"s": np.array(asked, np.int64)}
    model = classifier_around(nodes, constants, opset=13, shape=(size, *SHAPE))
    images = images_of(3 * size, (None, *SHAPE))
    network = network_of(model)

    assert network.batch_size is None
    parts = [run(model, part) for part in np.split(images, 3)]
    np.testing.assert_allclose(network(tensor(images)).numpy(), np.concatenate(parts), atol=1e-5)


def test_a_batch_size_that_more_depends_on_is_kept_and_computed_in_parts() -> None:
    # Every image meets another constant, so that no other size can be computed at once.
    nodes = [node("Mul", "images other", "y")]
    model = classifier_around(nodes, {"other": drawn(2, *SHAPE)}, opset=13, shape=(2, *SHAPE))
    images = images_of(5, (None, *SHAPE))
    network = network_of(model)

    assert network.batch_size == 2
    filled = np.concatenate([images, images[-1:]])
    parts = [run(model, part) for part in np.split(filled, 3)]
    found = network(tensor(images))
    np.testing.assert_allclose(found.numpy(), np.concatenate(parts)[:5], atol=1e-5)


@pytest.mark.parametrize("opset", [9, 13])
def test_logits_are_taken_before_the_softmax(opset: int) -> None:
    body = classifier_around([node("Relu", "images", "y")], {}, opset=opset)
    model = onnx.load_model_from_string(body.SerializeToString())
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.extend(
        [node("Softmax", "scores", "p", axis=1), node("Identity", "p", "logits")]
    )
    images = images_of(2, (None, *SHAPE))

    close(body, images, network_of(model)(tensor(images)))
    copy = onnx.load_model_from_string(model.SerializeToString())
    assert without_softmax(copy.graph, "logits")
    np.testing.assert_array_equal(run(copy, images), run(body, images))


def test_a_softmax_within_stays() -> None:
    model = classifier_around([node("Softmax", "images", "y", axis=1)], {}, opset=13)

    assert not without_softmax(model.graph, "logits")


def test_only_what_leads_to_the_output_is_read() -> None:
    model = classifier_around([node("Relu", "images", "y")], {}, opset=13)
    model.graph.node.append(node("NonZero", "y", "where"))
    model.graph.output.append(helper.make_tensor_value_info("where", TensorProto.INT64, None))
    images = images_of(2, (None, *SHAPE))

    close(model, images, network_of(model)(tensor(images)))


def test_functions_of_the_file_are_put_in_their_place() -> None:
    model = classifier_around([node("Relu", "images", "y")], {}, opset=18)
    body = [node("Relu", "a", "b"), node("Neg", "b", "c")]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("mine", "NegRelu", ["a"], ["c"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node[0].CopyFrom(helper.make_node("NegRelu", ["images"], ["y"], domain="mine"))
    images = images_of(2, (None, *SHAPE))

    close(model, images, network_of(model)(tensor(images)))


def test_a_batch_norm_may_have_statistics_of_each_pixel() -> None:
    # ONNX Runtime runs no such graph, so it is held against numpy.
    names = ("s", "b", "m", "v")
    constants = {name: np.abs(drawn(*SHAPE)) + i + 1 for i, name in enumerate(names)}
    around = classifier_around([node("Relu", "images", "y")], constants, opset=8)
    around.graph.node[0].CopyFrom(node("BatchNormalization", "images s b m v", "y", spatial=0))
    images = images_of(2, (None, *SHAPE))
    scale, bias, mean, variance = (constants[name] for name in names)
    hidden = (images - mean) / np.sqrt(variance + 1e-5) * scale + bias
    last = next(t for t in around.graph.initializer if t.name == "last.weight")
    expected = hidden.reshape(2, -1) @ numpy_helper.to_array(last)
    other = classifier_around([node("Relu", "images", "y")], constants, opset=8)
    session_of(other)

    from deploy.reading.network import Ends, GraphNetwork
    from edge_bench.backends.ort import image_input

    ends = Ends(input=image_input(session_of(other).get_inputs(), Path("it.onnx")), output="logits")
    found = GraphNetwork(around, "it.onnx", ends)(tensor(images))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_rounding_passes_the_gradient_of_black_and_white_but_not_of_what_is_cut() -> None:
    x = torch.tensor([0.0, 1.0, 0.4, -0.5, 1.5], requires_grad=True)
    # White lies half a step beyond the last level, by the rounding of the zero point.
    levels = quantised(x, torch.tensor(1 / 255), torch.tensor(1.0), 0, 255)

    (gradient,) = torch.autograd.grad(levels.sum() / 255, x)

    assert levels.tolist() == [1, 255, 103, 0, 255]
    np.testing.assert_allclose(gradient.numpy(), [1, 1, 1, 0, 0])


def test_operators_that_are_not_covered_are_named() -> None:
    nodes = [node("NonZero", "images", "n"), node("Cast", "n", "f", to=1)]
    last = [node("ReduceSum", "f", "s", keepdims=0), node("Mul", "images s", "y")]
    model = classifier_around([*nodes, *last], {}, opset=13)

    with pytest.raises(UnreadError, match=r"it\.onnx: .*are not covered: NonZero \(1\)"):
        network_of(model)


def test_operators_of_other_domains_are_named_with_theirs() -> None:
    model = classifier_around([node("Relu", "images", "y")], {}, opset=13)
    model.graph.node[0].CopyFrom(
        helper.make_node("QuickGelu", ["images"], ["y"], domain="com.microsoft")
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    with pytest.raises(UnreadError, match=r"com\.microsoft:QuickGelu \(1\)"):
        network_of(model)


RESIZED = node("Resize", "images - s", "y", mode="linear", antialias=1)
WIDENED = node("ConvTranspose", "images w", "y", output_shape=[13, 11], strides=[2, 2])
DROPPED = node("Dropout", "images r t", "y")


@pytest.mark.parametrize(
    ("operator", "constants", "said"),
    [
        (RESIZED, {"s": np.array([1, 1, 0.5, 0.5], np.float32)}, "Resize .*antialias"),
        (WIDENED, {"w": drawn(3, 2, 3, 3)}, "ConvTranspose .*output_shape"),
        (DROPPED, {"r": np.float32(0), "t": np.bool_(True)}, "Dropout .*at random"),
    ],
)
def test_what_an_operator_does_not_cover_is_told(
    operator: onnx.NodeProto, constants: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnreadError, match=f"the operator {said}"):
        network_of(classifier_around([operator], constants, opset=18))


SPARSE = helper.make_sparse_tensor(
    helper.make_tensor("v", onnx.TensorProto.FLOAT, [1], [0.5]),
    helper.make_tensor("i", onnx.TensorProto.INT64, [1], [0]),
    [1],
)
SQUARED = node("ReduceSumSquare", "images", "y", noop_with_empty_axes=1)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (
            [node("Constant", "", "c", sparse_value=SPARSE), node("Mul", "images c", "y")],
            "Constant",
        ),
        (
            [
                helper.make_node("Dropout", ["images"], ["d", "m"]),
                node("Cast", "m", "c", to=1),
                node("Mul", "d c", "y"),
            ],
            "Cast .*nothing that is read makes m",
        ),
        ([SQUARED], "ReduceSumSquare .*over no axes"),
    ],
    ids=["sparse constant", "second output", "no axes"],
)
def test_what_is_made_nowhere_is_told_in_a_sentence(nodes: list[onnx.NodeProto], said: str) -> None:
    with pytest.raises(UnreadError, match=f"the operator {said}"):
        network_of(classifier_around(nodes, {}, opset=18))


def test_an_opset_before_broadcasting_is_refused() -> None:
    model = classifier_around([node("Relu", "images", "y")], {}, opset=9)
    model.opset_import[0].version = 6
    with pytest.raises(UnreadError, match=r"of opset 6, and gradients are read off opset 7"):
        network_of(model)


def test_outputs_that_are_no_logits_are_refused() -> None:
    model = model_of([node("ReduceSum", "images", "logits", keepdims=0)], {}, opset=12)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UnreadError, match=r"expected its graph to make logits \(2, classes\)"):
        network_of(model)


@pytest.mark.parametrize("name", ["inception_v2", "shufflenet", "squeezenet"])
def test_classifiers_of_the_model_zoo_are_read(name: str, tmp_path: Path) -> None:
    path = LIGHT / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip(f"onnx {onnx.__version__} comes without {path.name}")
    model = with_weights(onnx.load(path))
    output = model.graph.output[0].name
    session = session_of(model)
    inputs = session.get_inputs()[0]
    images = images_of(inputs.shape[0], inputs.shape)
    network = network_of(model, output)
    without_softmax(model.graph, output)
    (expected,) = session_of(model).run([output], {inputs.name: images})

    found = network(tensor(images))

    spread = float(np.ptp(expected))
    assert spread > 0
    np.testing.assert_allclose(found.numpy(), expected.reshape(found.shape), atol=1e-4 * spread)


def with_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The light model with drawn weights, which it has one number for all of."""
    generator = np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for each in [n for n in model.graph.node if n.op_type == "ConstantOfShape"]:
        sizes = shapes[each.input[0]]
        fan_in = max(int(np.prod(sizes[1:])), 1)
        array = generator.normal(0, fan_in**-0.5, sizes).astype(np.float32)
        array = np.abs(array) if len(sizes) == 1 else array
        model.graph.initializer.append(numpy_helper.from_array(array, each.output[0]))
        model.graph.node.remove(each)
    return model


def test_names_that_torch_would_take_for_one_stay_two() -> None:
    nodes = [node("Mul", "images a.b", "m"), node("Add", "m a/b", "y")]
    held = {
        name: np.full((1, 3, 1, 1), size, np.float32) for name, size in (("a.b", 2), ("a/b", 5))
    }
    model = classifier_around(nodes, held, opset=13)
    images = images_of(2, (None, *SHAPE))
    close(model, images, network_of(model)(tensor(images)))


@pytest.mark.parametrize("numbers", [(-7, 2), (7, -2), (-7, -2), (-6, 3), (0, -2)])
def test_whole_numbers_are_divided_towards_0(numbers: tuple[int, int]) -> None:
    nodes = [node("Div", "a b", "q"), node("Cast", "q", "f", to=1), node("Add", "images f")]
    held = {name: np.array([n]) for name, n in zip("ab", numbers, strict=True)}
    model = classifier_around(nodes, held, opset=13)
    images = images_of(2, (None, *SHAPE))
    close(model, images, network_of(model)(tensor(images)))
