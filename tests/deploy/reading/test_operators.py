"""Each operator against ONNX Runtime, and its gradient against differences in float64."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from deploy.reading.on_host import ON_HOST
from deploy.reading.operators import OPERATORS
from tests.deploy.reading.cases import Case
from tests.deploy.reading.computing import COMPUTING
from tests.deploy.reading.graphs import SHAPE, classifier_around, images_of, network_of, node, run
from tests.deploy.reading.moving import MOVING

CASES = [*COMPUTING, *MOVING]
EVERY = [
    pytest.param(case, opset, id=f"{i}-{case.name}-{opset}")
    for i, case in enumerate(CASES)
    for opset in case.opsets
]


def model_for(case: Case, opset: int) -> onnx.ModelProto:
    """The case on images around 0, before a linear layer."""
    around = [node("Sub", "images middle", "centred"), node("Mul", "centred twice", "z")]
    known = {"middle": np.float32(0.5), "twice": np.float32(2.0)}
    return classifier_around([*around, *case.nodes], known | case.constants, opset=opset)


@pytest.mark.parametrize(("case", "opset"), EVERY)
def test_an_operator_computes_what_onnx_runtime_does(case: Case, opset: int) -> None:
    model = model_for(case, opset)
    images = images_of(2, (None, *SHAPE), seed=5)

    with torch.no_grad():
        found = network_of(model)(torch.from_numpy(images)).numpy()

    np.testing.assert_allclose(found, run(model, images), rtol=2e-5, atol=2e-5 + case.step)


@pytest.mark.parametrize("at", [i for i, case in enumerate(CASES) if case.smooth and case.opsets])
def test_its_gradient_is_that_of_differences_in_float64(at: int) -> None:
    case = CASES[at]
    network = network_of(model_for(case, case.opsets[0])).double()
    images = torch.from_numpy(images_of(1, (None, *SHAPE), seed=6).astype(np.float64))

    # Along random directions, which any wrong entry changes, instead of entry by entry.
    torch.manual_seed(at)
    assert torch.autograd.gradcheck(
        network, images.requires_grad_(), eps=1e-6, atol=1e-4, fast_mode=True
    )


def test_every_operator_that_is_read_is_compared() -> None:
    compared = {each.op_type for case in CASES if case.opsets for each in case.nodes}

    assert OPERATORS.keys() - compared == set()
    assert ON_HOST.keys() - compared == set()
