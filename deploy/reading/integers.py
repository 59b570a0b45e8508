"""Operators of quantised graphs: whole numbers in floats, whose roundings pass the gradient.

The derivative of a rounding is 0 almost everywhere, and of no use; it is taken for that of the
identity within the range of the integers, and one step beyond: black and white lie there, by the
rounding of the zero point, and an attack must be able to move them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import helper
from torch import Tensor

from deploy.reading.linear import LINEAR, conv
from deploy.reading.pointwise import as_host, straight_through
from deploy.reading.values import Attributes, Host, require


def _along(value: Host | None, x: Tensor, axis: int) -> Tensor:
    """A scale or zero point, () or (C,) along `axis`, as a tensor that x can be computed with."""
    if value is None:
        return x.new_zeros(())
    found = as_host(value).to(x.device, x.dtype)
    if found.numel() == 1:
        return found.reshape(())
    require(found.dim() == 1, "scales of blocks")
    return found.reshape([-1 if d == axis % x.dim() else 1 for d in range(x.dim())])


def _range(kind: np.dtype[Any]) -> tuple[int, int]:
    """Least and most of an integer type; of the types of 4 bits, too."""
    name = kind.name
    if name in ("int4", "uint4", "int2", "uint2"):
        bits = int(name[-1])
        return (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    require(kind.kind in "iu", f"integers of type {name}")
    return int(np.iinfo(kind).min), int(np.iinfo(kind).max)


def quantised(x: Tensor, scale: Tensor, zero: Tensor, least: int, most: int) -> Tensor:
    """The integers (in floats) that stand for x, rounded half to even as ONNX does."""
    exact = x / scale + zero
    whole = (x / scale).round() + zero
    levels = whole.clamp(least, most)
    # The clamp is of the exact value and a step wider: where it stops, so does the gradient.
    return straight_through(exact.clamp(least - 1, most + 1), levels)


def _quantize(a: Attributes, x: Tensor, scale: Host, zero: Host | None = None) -> Tensor:
    require(not a.get("block_size", 0), "scales of blocks")
    stated = a.get("output_dtype", 0)
    kind = zero.dtype if zero is not None else np.dtype(np.uint8)
    if zero is None and stated:
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(stated))
    axis = a.get("axis", 1)
    return quantised(x, _along(scale, x, axis), _along(zero, x, axis), *_range(kind))


def _dequantize(a: Attributes, x: Tensor, scale: Any, zero: Any = None) -> Tensor:
    require(not a.get("block_size", 0), "scales of blocks")
    axis = a.get("axis", 1)
    x = x if x.is_floating_point() else x.float()
    # What DynamicQuantizeLinear finds is one number of each, and no constant.
    shift = zero if isinstance(zero, Tensor) else _along(zero, x, axis)
    return (x - shift) * (scale if isinstance(scale, Tensor) else _along(scale, x, axis))


def _dynamic(_: Attributes, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale and zero point of a uint8 tensor from its own values; no gradient goes through them."""
    zero = x.new_zeros(())
    low, high = torch.minimum(x.detach().min(), zero), torch.maximum(x.detach().max(), zero)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    point = (-low / scale).round().clamp(0, 255)
    return quantised(x, scale, point, 0, 255), scale, point


def _less(value: Tensor, zero: Any, axis: int) -> Tensor:
    value = value if value.is_floating_point() else value.float()
    if isinstance(zero, Tensor):
        return value - zero
    return value - _along(zero, value, axis)


def _conv_integer(
    a: Attributes, x: Tensor, weight: Tensor, x_zero: Any = None, weight_zero: Host | None = None
) -> Tensor:
    return conv(a, _less(x, x_zero, 1), _less(weight, weight_zero, 0).to(x.dtype))


def _matmul_integer(
    a: Attributes, x: Tensor, weight: Tensor, x_zero: Any = None, weight_zero: Host | None = None
) -> Tensor:
    return _less(x, x_zero, -2) @ _less(weight, weight_zero, -1).to(x.dtype)


def _qlinear_conv(
    a: Attributes,
    x: Tensor,
    x_scale: Host,
    x_zero: Host,
    weight: Tensor,
    weight_scale: Host,
    weight_zero: Host,
    scale: Host,
    zero: Host,
    bias: Tensor | None = None,
) -> Tensor:
    real = _dequantize({}, x, x_scale, x_zero)
    kernel = _dequantize({"axis": 0}, weight, weight_scale, weight_zero).to(real.dtype)
    if bias is not None:
        steps = as_host(x_scale * weight_scale).to(real.device, real.dtype).reshape(-1)
        bias = bias.to(real.dtype) * steps
    return _quantize({}, conv(a, real, kernel, bias), scale, zero)


def _qlinear_matmul(
    a: Attributes,
    x: Tensor,
    x_scale: Host,
    x_zero: Host,
    weight: Tensor,
    weight_scale: Host,
    weight_zero: Host,
    scale: Host,
    zero: Host,
) -> Tensor:
    real = _dequantize({"axis": -2}, x, x_scale, x_zero)
    table = _dequantize({"axis": -1}, weight, weight_scale, weight_zero).to(real.dtype)
    return _quantize({}, LINEAR["MatMul"]({}, real, table), scale, zero)


INTEGERS: dict[str, Callable[..., Any]] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize,
}
