"""The operators of an exported CNN that can be trained, of all that `deploy.reading` computes.

Each takes the node's attributes and its inputs: tensors, lists of integers where the graph holds
integers (shapes and axes), or a float where it holds a single one. To add an operator: its name.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from deploy.qat.strided import conv2d
from deploy.reading.linear import conv
from deploy.reading.operators import OPERATORS as READ
from deploy.reading.values import Attributes

TRAINED = (
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Concat",
    "Div",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Squeeze",
    "Sub",
    "Transpose",
)


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return conv(a, x, weight, bias, convolution=conv2d)


OPERATORS: dict[str, Callable[..., Tensor]] = {name: READ[name] for name in TRAINED}
OPERATORS["Conv"] = _conv
