"""Fake quantisation: the values that ONNX defines, and the gradients of learned step sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from deploy.qat.fake_quant import FakeQuantiser, rounded

Array = NDArray[Any]


def by_the_standard(x: Array, scale: Array, zero: Array, axis: int) -> Array:
    """Quantised and dequantised by onnx's own reference."""
    constants = [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(zero, "zero")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=axis),
    ]
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "pair", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    (found,) = ReferenceEvaluator(model).run(None, {"x": x})
    return np.asarray(found)


@pytest.mark.parametrize(("zero", "kind"), [(0, np.uint8), (131, np.uint8), (-128, np.int8)])
def test_activations_are_rounded_as_the_standard_says(zero: int, kind: type[np.uint8]) -> None:
    # Halves of a step, which round to even, whole steps, and values beyond both ends.
    x = (np.arange(-600, 600, dtype=np.float32) / 2 * 0.25).reshape(2, -1)
    bounds = np.iinfo(kind)
    quantiser = FakeQuantiser(
        nn.Parameter(torch.tensor(0.25)), bounds.min - zero, bounds.max - zero
    )
    expected = by_the_standard(x, np.array(0.25, np.float32), np.array(zero, kind), 1)
    assert np.array_equal(quantiser(torch.from_numpy(x)).detach().numpy(), expected)


def test_weights_are_rounded_by_channel_and_never_to_the_smallest_integer() -> None:
    generator = np.random.default_rng(0)
    w = generator.normal(size=(4, 3, 3, 3)).astype(np.float32)
    scale = (np.abs(w).max(axis=(1, 2, 3)) / 100).astype(np.float32)
    quantiser = FakeQuantiser(nn.Parameter(torch.from_numpy(scale)), -127, 127)
    expected = by_the_standard(w, scale, np.zeros(4, np.int8), 0)
    assert np.array_equal(quantiser(torch.from_numpy(w)).detach().numpy(), expected)
    far = torch.from_numpy(-1000 * np.abs(w))
    assert quantiser.integers(far).min() == -127


def test_the_gradient_of_the_values_goes_straight_through_inside_the_range() -> None:
    x = torch.tensor([[-9.0, -0.3, 0.0, 1.3, 255.0, 300.0]], requires_grad=True)
    quantiser = FakeQuantiser(nn.Parameter(torch.tensor(1.0)), 0, 255)
    weights = torch.arange(1.0, 7.0)
    (quantiser(x) * weights).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 2, 3, 4, 5, 0]]


def test_what_does_not_clip_passes_the_gradient_everywhere() -> None:
    x = torch.tensor([[-9.0, 127.5, 300.0]], requires_grad=True)
    quantiser = FakeQuantiser(torch.tensor(1.0), 0, 127, clips=False)
    assert quantiser(x).tolist() == [[0, 127, 127]]
    quantiser(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 1, 1]]
    assert not list(quantiser.parameters())


def by_equation_3(x: Tensor, scale: float, least: int, most: int) -> Tensor:
    """LSQ's derivative of the rounded value by the step size."""
    ratio = x / scale
    inside = ratio.round() - ratio
    return torch.where(
        ratio.round() < least,
        torch.full_like(x, least),
        torch.where(ratio.round() > most, torch.full_like(x, most), inside),
    )


def test_the_gradient_of_an_activations_scale_is_that_of_learned_step_sizes() -> None:
    torch.manual_seed(0)
    x, upstream = 3 * torch.randn(5, 4, 2), torch.randn(5, 4, 2)
    scale = nn.Parameter(torch.tensor(0.02))
    (FakeQuantiser(scale, -128, 127)(x) * upstream).sum().backward()
    expected = (by_equation_3(x, 0.02, -128, 127) * upstream).sum() * 0.02**2
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_gradient_of_weights_scales_is_taken_by_channel() -> None:
    torch.manual_seed(0)
    w, upstream = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    scale = nn.Parameter(torch.tensor([0.01, 0.05]))
    (FakeQuantiser(scale, -127, 127)(w) * upstream).sum().backward()
    assert scale.grad is not None
    for channel in range(2):
        terms = by_equation_3(w[channel], scale[channel].item(), -127, 127) * upstream[channel]
        expected = terms.sum().item() * scale[channel].item() ** 2
        assert scale.grad[channel].item() == pytest.approx(expected, rel=1e-4)


def test_a_step_changes_a_scale_by_a_share_of_itself_however_large_it_is() -> None:
    torch.manual_seed(0)
    x, upstream = torch.randn(4, 6), torch.randn(4, 6)
    shares = []
    for size in (1e-4, 1.0, 100.0):
        scale = nn.Parameter(torch.tensor(0.01 * size))
        # The same network in other units: its values and their effect on the loss.
        (FakeQuantiser(scale, -100, 100)(size * x) * upstream / size).sum().backward()
        assert scale.grad is not None
        shares.append((scale.grad / scale.detach()).item())
    assert shares == pytest.approx([shares[0]] * 3, rel=1e-3)


def test_a_scale_that_crossed_zero_is_still_a_step() -> None:
    x = torch.linspace(-100, 100, 13).reshape(1, -1)
    ours = FakeQuantiser(nn.Parameter(torch.tensor(-0.4)), -128, 127)
    theirs = FakeQuantiser(nn.Parameter(torch.tensor(0.4)), -128, 127)
    assert torch.equal(ours(x), theirs(x))


def test_a_bias_is_rounded_without_a_bound_and_its_gradient_is_one() -> None:
    bias = torch.tensor([0.26, -70000.1], requires_grad=True)
    found = rounded(bias, torch.tensor([0.1, 0.5]))
    assert found.detach().tolist() == pytest.approx([0.3, -70000.0])
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert bias.grad is not None
    assert bias.grad.tolist() == [1, 1]
