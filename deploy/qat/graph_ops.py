"""What the operators of an exported CNN compute, in torch: one function each, by ONNX name.

Each takes the node's attributes and its inputs: tensors, lists of integers where the graph holds
integers (shapes and axes), or a float where it holds a single one. To add an operator: a function
and an entry in OPERATORS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deploy.qat.strided import conv2d
from edge_bench.core.errors import InputError

Attributes = dict[str, Any]


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, padding = _padded(a, x, 0.0)
    rows, columns = a.get("strides", (1, 1))
    dilations, groups = a.get("dilations", (1, 1)), a.get("group", 1)
    return conv2d(x, weight, bias, (rows, columns), padding, dilations, groups)


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    x, padding = _padded(a, x, -torch.inf)
    return F.max_pool2d(
        x,
        a["kernel_shape"],
        a.get("strides", (1, 1)),
        padding,
        a.get("dilations", (1, 1)),
        ceil_mode=bool(a.get("ceil_mode", 0)),
    )


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise InputError(f"an ONNX AveragePool with uneven padding {a['pads']} cannot be trained")
    return F.avg_pool2d(
        x,
        a["kernel_shape"],
        a.get("strides", (1, 1)),
        (top, left),
        ceil_mode=bool(a.get("ceil_mode", 0)),
        count_include_pad=bool(a.get("count_include_pad", 0)),
    )


def _padded(a: Attributes, x: Tensor, value: float) -> tuple[Tensor, tuple[int, int]]:
    """x and the padding that is left to do, which torch does alike on both sides only."""
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


def _gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA", 0) else x
    weight = weight if a.get("transB", 0) else weight.T
    product: Tensor = F.linear(x, weight) * a.get("alpha", 1.0)
    return product if bias is None else product + a.get("beta", 1.0) * bias


def _reduce_mean(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
    return x.mean(dim=axes or tuple(range(x.dim())), keepdim=bool(a.get("keepdims", 1)))


def _reshape(a: Attributes, x: Tensor, shape: list[int]) -> Tensor:
    copied = not a.get("allowzero", 0)
    return x.reshape([x.shape[i] if copied and d == 0 else d for i, d in enumerate(shape)])


def _pad(
    a: Attributes,
    x: Tensor,
    pads: list[int],
    value: float | None = None,
    axes: list[int] | None = None,
) -> Tensor:
    if a.get("mode", b"constant") != b"constant":
        raise InputError(f"an ONNX Pad of mode {a['mode'].decode()} cannot be trained")
    # ONNX lists where all axes begin, then where they end; torch, axis by axis from the last on.
    wanted = [0, 0] * x.dim()
    for i, axis in enumerate(axes or range(x.dim())):
        last = 2 * (x.dim() - 1 - axis % x.dim())
        wanted[last : last + 2] = pads[i], pads[i + len(pads) // 2]
    return F.pad(x, wanted, value=0.0 if value is None else value)


def _hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    line: Tensor = x * a.get("alpha", 0.2) + a.get("beta", 0.5)
    return line.clamp(0, 1)


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _, x, y: x + y,
    "AveragePool": _average_pool,
    "Clip": lambda _, x, least=None, most=None: torch.clamp(x, least, most),
    "Concat": lambda a, *parts: torch.cat(parts, dim=a["axis"]),
    "Conv": _conv,
    "Div": lambda _, x, y: x / y,
    "Flatten": lambda a, x: x.reshape(math.prod(x.shape[: a.get("axis", 1)]), -1),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: x.mean(dim=(2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _, x: F.hardswish(x),
    "Identity": lambda _, x: x,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "MatMul": lambda _, x, y: x @ y,
    "MaxPool": _max_pool,
    "Mul": lambda _, x, y: x * y,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": lambda _, x: F.relu(x),
    "Reshape": _reshape,
    "Sigmoid": lambda _, x: x.sigmoid(),
    "Squeeze": lambda _, x, axes: x.squeeze(tuple(axes)),
    "Sub": lambda _, x, y: x - y,
    "Transpose": lambda a, x: x.permute(a["perm"]),
}
