"""Operators that compute each value by itself, or of two or more that stand in one place."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional as F

from deploy.reading.values import Attributes, Host, number, opset, require, text

WHOLE = {
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.INT32,
    TensorProto.UINT32,
    TensorProto.INT64,
    TensorProto.UINT64,
}


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """`value` forwards, and backwards the gradient of x."""
    return x + (value - x).detach()


def _cast(a: Attributes, x: Tensor) -> Tensor:
    """Every float is computed as the images are; whole numbers stay in floats, passed through."""
    if a["to"] == TensorProto.BOOL:
        return x != 0
    if not x.is_floating_point():
        return x.float() if a["to"] not in WHOLE else x.long()
    return straight_through(x, x.trunc()) if a["to"] in WHOLE else x


def _clip(a: Attributes, x: Tensor, least: Any = None, most: Any = None) -> Tensor:
    if opset(a) < 11:
        least, most = a.get("min"), a.get("max")
    if isinstance(least, Tensor) or isinstance(most, Tensor):
        for bound, choose in ((least, torch.maximum), (most, torch.minimum)):
            if bound is not None:
                x = choose(x, torch.as_tensor(bound, dtype=x.dtype, device=x.device))
        return x
    least, most = (None if bound is None else number(bound) for bound in (least, most))
    return x if least is None and most is None else torch.clamp(x, least, most)


def _div(_: Attributes, x: Tensor, y: Tensor) -> Tensor:
    if x.is_floating_point() or y.is_floating_point():
        return x / y
    return torch.div(x, y, rounding_mode="trunc")


def _mod(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return torch.fmod(x, y) if a.get("fmod", 0) else torch.remainder(x, y)


def _hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    line: Tensor = x * a.get("alpha", 0.2) + a.get("beta", 0.5)
    return line.clamp(0, 1)


def _selu(a: Attributes, x: Tensor) -> Tensor:
    # The float32 numbers that ONNX states as the defaults.
    alpha, gamma = a.get("alpha", 1.67326319217681884765625), a.get("gamma", 1.05070102214813232)
    found: Tensor = gamma * F.elu(x, alpha)
    return found


def _softmax(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Before opset 13 it is one over all axes from `axis` on."""

    def apply(a: Attributes, x: Tensor) -> Tensor:
        if opset(a) >= 13:
            return function(x, dim=a.get("axis", -1))
        axis = a.get("axis", 1) % max(x.dim(), 1)
        return function(x.flatten(axis), dim=-1).reshape(x.shape)

    return apply


def _dropout(_: Attributes, x: Tensor, ratio: Any = None, training: Any = None) -> Tensor:
    require(training is None or not number(training), "it drops at random (training_mode)")
    return x


def _many(choose: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda _, *parts: reduce(choose, parts)


def _where(_: Attributes, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition.bool(), x, y)


def _shrink(a: Attributes, x: Tensor) -> Tensor:
    bias, limit = a.get("bias", 0.0), a.get("lambd", 0.5)
    left = torch.where(x < -limit, x + bias, torch.zeros_like(x))
    return torch.where(x > limit, x - bias, left)


def _gelu(a: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=text(a, "approximate", "none"))


def _pow(_: Attributes, x: Tensor, y: Tensor) -> Tensor:
    # An exponent of another type keeps the base's.
    return torch.pow(x, y.to(x.dtype)) if x.is_floating_point() else torch.pow(x, y)


def _prelu(_: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def _thresholded(a: Attributes, x: Tensor) -> Tensor:
    return torch.where(x > a.get("alpha", 1.0), x, torch.zeros_like(x))


def _swish(a: Attributes, x: Tensor) -> Tensor:
    return x * torch.sigmoid(a.get("alpha", 1.0) * x)


def _round(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A step has no gradient that is of use: it is passed through."""
    return lambda _, x: straight_through(x, function(x)) if x.is_floating_point() else x


def _celu(a: Attributes, x: Tensor) -> Tensor:
    return F.celu(x, a.get("alpha", 1.0))


def _identity(_: Attributes, x: Tensor) -> Tensor:
    return x


def as_host(array: Host) -> Tensor:
    """A constant as a tensor: floats of any width as float32, whole numbers and booleans as such.

    bfloat16 and the like are numpy arrays of a type of their own, which floats can be made of.
    """
    if array.dtype.kind in "iu":
        return torch.from_numpy(np.ascontiguousarray(array.astype(np.int64)).reshape(array.shape))
    kind = bool if array.dtype.kind == "b" else np.float32
    # `ascontiguousarray` makes a list of one of a scalar.
    return torch.from_numpy(np.array(array, dtype=kind, order="C"))


POINTWISE: dict[str, Callable[..., Any]] = {
    "Abs": lambda _, x: x.abs(),
    "Add": lambda _, x, y: x + y,
    "And": lambda _, x, y: x & y,
    "Cast": _cast,
    "CastLike": lambda _, x, like: x,
    "Ceil": _round(torch.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": lambda _, x: x.cos(),
    "Div": _div,
    "Dropout": _dropout,
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "Equal": lambda _, x, y: x == y,
    "Erf": lambda _, x: x.erf(),
    "Exp": lambda _, x: x.exp(),
    "Floor": _round(torch.floor),
    "Gelu": _gelu,
    "Greater": lambda _, x, y: x > y,
    "GreaterOrEqual": lambda _, x, y: x >= y,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _, x: F.hardswish(x),
    "Identity": _identity,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "Less": lambda _, x, y: x < y,
    "LessOrEqual": lambda _, x, y: x <= y,
    "Log": lambda _, x: x.log(),
    "LogSoftmax": _softmax(F.log_softmax),
    "Max": _many(torch.maximum),
    "Mean": lambda _, *parts: reduce(torch.add, parts) / len(parts),
    "Min": _many(torch.minimum),
    "Mish": lambda _, x: x * F.softplus(x).tanh(),
    "Mod": _mod,
    "Mul": lambda _, x, y: x * y,
    "Neg": lambda _, x: -x,
    "Not": lambda _, x: ~x,
    "Or": lambda _, x, y: x | y,
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": lambda _, x: x.reciprocal(),
    "Relu": lambda _, x: F.relu(x),
    "Round": _round(torch.round),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": lambda _, x: x.sigmoid(),
    "Sign": lambda _, x: x.sign(),
    "Sin": lambda _, x: x.sin(),
    "Softmax": _softmax(F.softmax),
    "Softplus": lambda _, x: F.softplus(x),
    "Softsign": lambda _, x: F.softsign(x),
    "Sqrt": lambda _, x: x.sqrt(),
    "Sub": lambda _, x, y: x - y,
    "Sum": _many(torch.add),
    "Swish": _swish,
    "Tanh": lambda _, x: x.tanh(),
    "ThresholdedRelu": _thresholded,
    "Where": _where,
    "Xor": lambda _, x, y: x ^ y,
}
